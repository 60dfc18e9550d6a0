extension FrontEndMessage {
  /// The whole message, header included, as a front-end sends it.
  public func bytes(needsReply: Bool = false) -> [UInt8] {
    let payload = payload
    let flags = MessageHeader.version | (needsReply ? MessageHeader.needsReplyFlag : 0)
    let header = MessageHeader(
      request: request.rawValue, flags: flags, payloadByteCount: UInt32(payload.count))
    return header.bytes + payload
  }

  private var payload: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .getFeatures, .setOwner, .resetOwner, .resetDevice, .getProtocolFeatures,
      .getQueueCount, .getMemorySlotCount, .setLogDescriptor:
      break
    case .setFeatures(let features): writer.append(features.rawValue)
    case .setProtocolFeatures(let features): writer.append(features.rawValue)
    case .setMemoryTable(let regions):
      writer.append(UInt32(regions.count))
      writer.append(UInt32(0))
      for region in regions { writer.append(region) }
    case .addMemoryRegion(let region), .removeMemoryRegion(let region):
      writer.append(UInt64(0))
      writer.append(region)
    case .setLogBase(let log):
      writer.append(log.byteCount)
      writer.append(log.offset)
    case .setRingSize(let number), .setRingBase(let number), .getRingBase(let number),
      .setRingEnable(let number):
      writer.append(number)
    case .setRingAddress(let address): writer.append(address)
    case .setRingKick(let ring), .setRingCall(let ring), .setRingError(let ring):
      writer.append(UInt64(ring.ring) | (ring.hasDescriptor ? 0 : Self.noDescriptorFlag))
    case .getConfiguration(let access), .setConfiguration(let access): writer.append(access)
    }
    return writer.bytes
  }
}

extension WireWriter {
  mutating func append(_ region: RAMRegionDescription) {
    append(region.gpa)
    append(region.byteCount)
    append(region.userAddress)
    append(region.fileOffset)
  }

  mutating func append(_ number: RingNumber) {
    append(number.ring)
    append(number.value)
  }

  mutating func append(_ address: RingAddress) {
    append(address.ring)
    append(address.flags)
    append(address.descriptors)
    append(address.used)
    append(address.available)
    append(address.log)
  }

  mutating func append(_ access: ConfigurationAccess) {
    append(access.offset)
    append(UInt32(access.bytes.count))
    append(access.flags)
    append(access.bytes)
  }
}
