/// Every command with what it says.
public enum VFIOUserRequest: Hashable, Sendable {
  case version(VersionMessage)
  case mapDMA(DMAMapMessage)
  case unmapDMA(DMAUnmapMessage)
  case deviceInformation
  /// `argsz` is the room for the answer, bytes.
  case regionInformation(index: UInt32, argsz: UInt32)
  case regionIODescriptors(index: UInt32, argsz: UInt32)
  case irqInformation(index: UInt32)
  case setIRQs(SetIRQsMessage)
  case regionRead(RegionAccess)
  case regionWrite(RegionAccess, [UInt8])
  case dmaRead(DMAMessageRange)
  case dmaWrite(DMAMessageRange, [UInt8])
  case reset
  case regionWriteMulti([SmallRegionWrite])
  case feature(FeatureMessage)
  case migrationRead(byteCount: Int)
  case migrationWrite([UInt8])

  public var command: VFIOUserCommand {
    switch self {
    case .version: .version
    case .mapDMA: .mapDMA
    case .unmapDMA: .unmapDMA
    case .deviceInformation: .deviceInformation
    case .regionInformation: .regionInformation
    case .regionIODescriptors: .regionIODescriptors
    case .irqInformation: .irqInformation
    case .setIRQs: .setIRQs
    case .regionRead: .regionRead
    case .regionWrite: .regionWrite
    case .dmaRead: .dmaRead
    case .dmaWrite: .dmaWrite
    case .reset: .reset
    case .regionWriteMulti: .regionWriteMulti
    case .feature: .feature
    case .migrationRead: .migrationRead
    case .migrationWrite: .migrationWrite
    }
  }

  /// - Parameters:
  ///   - side: who sent it.
  ///   - limits: of the side that decodes.
  /// - Throws: `malformed` with the errno to answer.
  public init(
    decoding command: UInt16, _ payload: [UInt8], from side: VFIOUserSide, limits: MessageLimits
  ) throws(VFIOUserError) {
    var reader = WireReader(payload, VFIOUserCommand.name(command))
    guard let command = VFIOUserCommand(rawValue: command), command.sender == side else {
      throw reader.malformed("it is no command of a \(side)")
    }
    switch command {
    case .version: self = .version(try VersionMessage(decoding: payload))
    case .mapDMA: self = .mapDMA(try DMAMapMessage(&reader))
    case .unmapDMA: self = .unmapDMA(try DMAUnmapMessage(&reader, limits: limits))
    case .deviceInformation:
      _ = try Self.room(&reader, from: 16)
      _ = try reader.takeBytes(12)
      self = .deviceInformation
    case .regionInformation:
      let argsz = try Self.room(&reader, from: 32)
      _ = try reader.take(UInt32.self)
      let index: UInt32 = try reader.take()
      _ = try reader.takeBytes(20)
      self = .regionInformation(index: index, argsz: argsz)
    case .regionIODescriptors:
      let argsz = try Self.room(&reader, from: 16)
      let flags: UInt32 = try reader.take()
      let index: UInt32 = try reader.take()
      _ = try reader.take(UInt32.self)
      try reader.require(flags == 0, "flags \(flags)")
      self = .regionIODescriptors(index: index, argsz: argsz)
    case .irqInformation:
      _ = try Self.room(&reader, from: 16)
      _ = try reader.take(UInt32.self)
      let index: UInt32 = try reader.take()
      _ = try reader.take(UInt32.self)
      self = .irqInformation(index: index)
    case .setIRQs: self = .setIRQs(try SetIRQsMessage(&reader))
    case .reset: self = .reset
    case .regionWriteMulti: self = .regionWriteMulti(try SmallRegionWrite.decode(&reader))
    case .feature: self = .feature(try FeatureMessage(&reader))
    case .regionRead, .regionWrite, .dmaRead, .dmaWrite, .migrationRead, .migrationWrite:
      self = try Self.data(command, &reader, limits)
    }
  }

  /// The commands that move data: as much as is promised, and no more.
  private static func data(
    _ command: VFIOUserCommand, _ reader: inout WireReader, _ limits: MessageLimits
  ) throws(VFIOUserError) -> VFIOUserRequest {
    switch command {
    case .regionRead: return .regionRead(try RegionAccess(&reader, limits: limits))
    case .regionWrite:
      let access = try RegionAccess(&reader, limits: limits)
      let data = try reader.takeBytes(access.byteCount)
      try reader.end()
      return .regionWrite(access, data)
    case .dmaRead: return .dmaRead(try DMAMessageRange(&reader, limits: limits))
    case .dmaWrite:
      let range = try DMAMessageRange(&reader, limits: limits)
      let data = try reader.takeBytes(range.byteCount)
      try reader.end()
      return .dmaWrite(range, data)
    case .migrationRead:
      let argsz: UInt32 = try reader.take()
      let size: UInt32 = try reader.take()
      try reader.require(UInt64(size) <= UInt64(limits.dataByteCountMax), "\(size) bytes")
      try reader.require(UInt64(argsz) >= UInt64(size) + 8, "argsz \(argsz)")
      return .migrationRead(byteCount: Int(size))
    default:
      let argsz: UInt32 = try reader.take()
      let size: UInt32 = try reader.take()
      try reader.require(argsz >= 8, "argsz \(argsz)")
      try reader.require(UInt64(size) <= UInt64(limits.dataByteCountMax), "\(size) bytes")
      let data = try reader.takeBytes(Int(size))
      try reader.end()
      return .migrationWrite(data)
    }
  }

  private static func room(
    _ reader: inout WireReader, from least: UInt32
  ) throws(VFIOUserError) -> UInt32 {
    let argsz: UInt32 = try reader.take()
    try reader.require(argsz >= least, "argsz \(argsz)")
    return argsz
  }

  /// The payload.
  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    switch self {
    case .version(let message): return message.encoded()
    case .mapDMA(let message): return message.encoded()
    case .unmapDMA(let message): return message.encoded()
    case .deviceInformation: Self.put([16, 0, 0, 0], &writer)
    case .regionInformation(let index, let argsz):
      Self.put([argsz, 0, index, 0, 0, 0, 0, 0], &writer)
    case .regionIODescriptors(let index, let argsz): Self.put([argsz, 0, index, 0], &writer)
    case .irqInformation(let index): Self.put([16, 0, index, 0], &writer)
    case .setIRQs(let message): return message.encoded()
    case .regionRead(let access): return access.encoded()
    case .regionWrite(let access, let data): return access.encoded() + data
    case .dmaRead(let range): return range.encoded()
    case .dmaWrite(let range, let data): return range.encoded() + data
    case .reset: break
    case .regionWriteMulti(let writes): return SmallRegionWrite.encoded(writes)
    case .feature(let message): return message.encoded()
    case .migrationRead(let byteCount):
      Self.put([UInt32(byteCount + 8), UInt32(byteCount)], &writer)
    case .migrationWrite(let data):
      Self.put([UInt32(data.count + 8), UInt32(data.count)], &writer)
      writer.put(data)
    }
    return writer.bytes
  }

  private static func put(_ words: [UInt32], _ writer: inout WireWriter) {
    for word in words { writer.put(word) }
  }
}
