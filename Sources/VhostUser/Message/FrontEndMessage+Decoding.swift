extension FrontEndMessage {
  /// Bits of the number that comes with a ring's descriptor.
  private static let ringMask: UInt64 = 0xff
  static let noDescriptorFlag: UInt64 = 0x100

  /// Reads the payload of a message whose header has been checked.
  /// - Parameters:
  ///   - payload: as many bytes as the header says.
  ///   - descriptorCount: how many came with it.
  /// - Throws: what is wrong with it. Nothing the front-end sends ends the program.
  init(
    _ request: FrontEndRequest, payload: [UInt8], descriptorCount: Int
  ) throws(VhostUserError) {
    guard request.payloadByteCounts.contains(UInt32(clamping: payload.count)) else {
      throw .badPayloadSize(request, byteCount: UInt32(clamping: payload.count))
    }
    self = try Self.decode(request, payload)
    guard descriptorCounts.contains(descriptorCount) else {
      throw .badDescriptorCount(
        request, count: descriptorCount, wanted: descriptorCounts.upperBound)
    }
  }

  private static func decode(
    _ request: FrontEndRequest, _ payload: [UInt8]
  ) throws(VhostUserError) -> FrontEndMessage {
    var reader = WireReader(payload)
    switch request {
    case .getFeatures: return .getFeatures
    case .setFeatures: return .setFeatures(VirtioFeatures(rawValue: reader.word64()))
    case .setOwner: return .setOwner
    case .resetOwner: return .resetOwner
    case .resetDevice: return .resetDevice
    case .getProtocolFeatures: return .getProtocolFeatures
    case .setProtocolFeatures:
      return .setProtocolFeatures(ProtocolFeatures(rawValue: reader.word64()))
    case .getQueueCount: return .getQueueCount
    case .getMemorySlotCount: return .getMemorySlotCount
    case .setMemoryTable: return .setMemoryTable(try regions(payload))
    case .addMemoryRegion: return .addMemoryRegion(region(&reader, padded: true))
    case .removeMemoryRegion: return .removeMemoryRegion(region(&reader, padded: true))
    case .setLogBase:
      let byteCount = reader.word64()
      return .setLogBase(LogDescription(byteCount: byteCount, offset: reader.word64()))
    case .setLogDescriptor: return .setLogDescriptor
    case .setRingSize: return .setRingSize(try ringNumber(request, &reader))
    case .setRingBase: return .setRingBase(try ringNumber(request, &reader))
    case .getRingBase: return .getRingBase(try ringNumber(request, &reader))
    case .setRingEnable:
      let number = try ringNumber(request, &reader)
      guard number.value <= 1 else {
        throw .badField(request, field: "enable", value: UInt64(number.value))
      }
      return .setRingEnable(number)
    case .setRingAddress: return .setRingAddress(try ringAddress(&reader))
    case .setRingKick: return .setRingKick(try ringDescriptor(request, reader.word64()))
    case .setRingCall: return .setRingCall(try ringDescriptor(request, reader.word64()))
    case .setRingError: return .setRingError(try ringDescriptor(request, reader.word64()))
    case .getConfiguration: return .getConfiguration(try configuration(request, &reader))
    case .setConfiguration: return .setConfiguration(try configuration(request, &reader))
    }
  }

  private static func regions(
    _ payload: [UInt8]
  ) throws(VhostUserError) -> [RAMRegionDescription] {
    var reader = WireReader(payload)
    let count = reader.word32()
    _ = reader.word32()
    guard count <= UInt32(CompanionLimits.tableRegionCountMax) else {
      throw .tooManyRegions(count: Int(count), max: CompanionLimits.tableRegionCountMax)
    }
    guard payload.count == 8 + 32 * Int(count) else {
      throw .badPayloadSize(.setMemoryTable, byteCount: UInt32(clamping: payload.count))
    }
    return (0..<count).map { _ in region(&reader, padded: false) }
  }

  private static func region(_ reader: inout WireReader, padded: Bool) -> RAMRegionDescription {
    if padded { _ = reader.word64() }
    let gpa = reader.word64()
    let byteCount = reader.word64()
    let userAddress = reader.word64()
    return RAMRegionDescription(
      gpa: gpa, byteCount: byteCount, userAddress: userAddress, fileOffset: reader.word64())
  }

  private static func checked(
    _ ring: UInt32, of request: FrontEndRequest
  ) throws(VhostUserError) -> UInt32 {
    guard ring < CompanionLimits.ringCountMax else {
      throw .badField(request, field: "ring", value: UInt64(ring))
    }
    return ring
  }

  private static func ringNumber(
    _ request: FrontEndRequest, _ reader: inout WireReader
  ) throws(VhostUserError) -> RingNumber {
    let ring = try checked(reader.word32(), of: request)
    return RingNumber(ring: ring, value: reader.word32())
  }

  private static func ringAddress(
    _ reader: inout WireReader
  ) throws(VhostUserError) -> RingAddress {
    let ring = try checked(reader.word32(), of: .setRingAddress)
    let flags = reader.word32()
    let descriptors = reader.word64()
    let used = reader.word64()
    let available = reader.word64()
    return RingAddress(
      ring: ring, flags: flags, descriptors: descriptors, used: used, available: available,
      log: reader.word64())
  }

  private static func ringDescriptor(
    _ request: FrontEndRequest, _ value: UInt64
  ) throws(VhostUserError) -> RingDescriptor {
    guard value & ~(ringMask | noDescriptorFlag) == 0 else {
      throw .badField(request, field: "ring", value: value)
    }
    return RingDescriptor(
      ring: UInt8(value & ringMask), hasDescriptor: value & noDescriptorFlag == 0)
  }

  private static func configuration(
    _ request: FrontEndRequest, _ reader: inout WireReader
  ) throws(VhostUserError) -> ConfigurationAccess {
    let offset = reader.word32()
    let byteCount = reader.word32()
    let flags = reader.word32()
    let bytes = reader.rest()
    guard bytes.count == Int(byteCount) else {
      throw .badField(request, field: "size", value: UInt64(byteCount))
    }
    guard Int(offset) <= CompanionLimits.configurationByteCount - bytes.count else {
      throw .badField(request, field: "offset", value: UInt64(offset))
    }
    return ConfigurationAccess(offset: offset, flags: flags, bytes: bytes)
  }
}
