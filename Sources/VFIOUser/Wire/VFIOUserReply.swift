/// Every answer with what it says, errors left out: those are headers alone.
public enum VFIOUserReply: Hashable, Sendable {
  /// No payload: DMA_MAP, DEVICE_SET_IRQS, DEVICE_RESET, MIG_DATA_WRITE.
  case done
  case version(VersionMessage)
  case unmapDMA(DMAUnmapReply)
  case deviceInformation(DeviceInformation)
  /// `neededByteCount` is the room for the whole answer where this one was cut.
  case regionInformation(RegionInformation, neededByteCount: Int?)
  case regionIODescriptors(index: UInt32, [RegionIODescriptor], neededByteCount: Int?)
  case irqInformation(IRQInformation)
  case regionRead([UInt8])
  case regionWrite
  case dmaRead([UInt8])
  case dmaWrite
  case regionWriteMulti
  case feature(FeatureMessage)
  case migrationRead([UInt8])

  /// - Throws: `malformed`: the answer is not used.
  public init(decoding payload: [UInt8], to request: VFIOUserRequest) throws(VFIOUserError) {
    var reader = WireReader(payload, "answer to \(request.command)")
    switch request {
    case .version: self = .version(try VersionMessage(decoding: payload))
    case .mapDMA, .setIRQs, .reset, .migrationWrite: self = .done
    case .unmapDMA(let message): self = .unmapDMA(try DMAUnmapReply(&reader, to: message))
    case .deviceInformation: self = .deviceInformation(try DeviceInformation(&reader))
    case .regionInformation(let index, _):
      let (information, needed) = try RegionInformation.decode(&reader)
      try reader.require(information.index == index, "it is about \(information.index)")
      self = .regionInformation(information, neededByteCount: needed)
    case .regionIODescriptors(let index, _): self = try Self.ioDescriptors(&reader, index)
    case .irqInformation(let index):
      let information = try IRQInformation(&reader)
      try reader.require(information.index == index, "it is about \(information.index)")
      self = .irqInformation(information)
    case .regionRead(let access):
      let answered = try RegionAccess(&reader, limits: Self.widest)
      try reader.require(answered.byteCount <= access.byteCount, "\(answered.byteCount) bytes")
      self = .regionRead(try reader.takeBytes(answered.byteCount))
    case .regionWrite:
      _ = try reader.takeBytes(16)
      self = .regionWrite
    case .dmaRead(let range):
      let answered = try DMAMessageRange(&reader, limits: Self.widest)
      try reader.require(answered == range, "it is about \(answered)")
      self = .dmaRead(try reader.takeBytes(range.byteCount))
    // Before QEMU 11.1 its body was short or missing.
    case .dmaWrite: self = .dmaWrite
    case .regionWriteMulti: self = .regionWriteMulti
    case .feature(let message):
      let answer = try FeatureMessage(&reader)
      try reader.require(
        answer.feature == message.feature && answer.use == message.use, "it is about another use")
      self = .feature(answer)
    case .migrationRead(let byteCount):
      _ = try reader.take(UInt32.self)
      // The message may be longer than what is in it: libvfio-user pads.
      let count: UInt32 = try reader.take()
      try reader.require(Int(count) <= byteCount, "\(count) bytes of \(byteCount) asked for")
      self = .migrationRead(try reader.takeBytes(Int(count)))
    }
  }

  private static let widest = MessageLimits(dataByteCountMax: MessageLimits.dataByteCountLargest)

  private static func ioDescriptors(
    _ reader: inout WireReader, _ index: UInt32
  ) throws(VFIOUserError) -> VFIOUserReply {
    let argsz: UInt32 = try reader.take()
    _ = try reader.take(UInt32.self)
    let answered: UInt32 = try reader.take()
    let count: UInt32 = try reader.take()
    try reader.require(answered == index, "it is about \(answered)")
    if UInt64(argsz) > UInt64(reader.bytes.count) {
      return .regionIODescriptors(index: index, [], neededByteCount: Int(argsz))
    }
    try reader.require(
      Int(count) <= reader.leftCount / RegionIODescriptor.byteCountEach, "\(count) entries")
    var entries: [RegionIODescriptor] = []
    for _ in 0..<count { entries.append(try RegionIODescriptor(&reader)) }
    return .regionIODescriptors(index: index, entries, neededByteCount: nil)
  }

  /// The payload of an answer to `request`, and whether it is whole: where it is cut to the room
  /// that was given, no descriptor goes with it.
  public func encoded(to request: VFIOUserRequest) -> (payload: [UInt8], isWhole: Bool) {
    var writer = WireWriter()
    switch (self, request) {
    case (.version(let message), _): writer.put(message.encoded())
    case (.unmapDMA(let reply), .unmapDMA(let message)): writer.put(reply.encoded(to: message))
    case (.deviceInformation(let information), _): writer.put(information.encoded())
    case (.regionInformation(let information, _), .regionInformation(_, let argsz)):
      return (information.encoded(argsz: argsz), information.fits(argsz))
    case (.regionIODescriptors(let index, let entries, _), .regionIODescriptors(_, let argsz)):
      let needed = 16 + RegionIODescriptor.byteCountEach * entries.count
      let isWhole = needed <= Int(argsz)
      for word in [UInt32(needed), 0, index, UInt32(entries.count)] { writer.put(word) }
      if isWhole { for entry in entries { entry.encode(to: &writer) } }
      return (writer.bytes, isWhole)
    case (.irqInformation(let information), _): writer.put(information.encoded())
    case (.regionRead(let data), .regionRead(var access)):
      access.byteCount = data.count
      writer.put(access.encoded() + data)
    case (.regionWrite, .regionWrite(let access, _)): writer.put(access.encoded())
    case (.dmaRead(let data), .dmaRead(let range)): writer.put(range.encoded() + data)
    case (.dmaWrite, .dmaWrite(let range, _)): writer.put(range.encoded())
    case (.regionWriteMulti, .regionWriteMulti(let writes)): writer.put(UInt64(writes.count))
    case (.feature(let message), _): writer.put(message.encoded())
    case (.migrationRead(let data), _):
      writer.put(UInt32(8 + data.count))
      writer.put(UInt32(data.count))
      writer.put(data)
    case (.done, _): break
    default: preconditionFailure("\(self) is no answer to \(request.command)")
    }
    return (writer.bytes, true)
  }
}
