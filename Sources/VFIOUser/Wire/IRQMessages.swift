/// The answer to DEVICE_GET_IRQ_INFO: u32 argsz | u32 flags | u32 index | u32 count.
public struct IRQInformation: Hashable, Sendable {
  public struct Flags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let eventDescriptor = Flags(rawValue: 1)
    public static let maskable = Flags(rawValue: 2)
    public static let automasked = Flags(rawValue: 4)
    public static let noResize = Flags(rawValue: 8)
  }

  public var index: UInt32
  public var flags: Flags
  public var count: UInt32

  public init(index: UInt32, flags: Flags, count: UInt32) {
    self.index = index
    self.flags = flags
    self.count = count
  }

  init(_ reader: inout WireReader) throws(VFIOUserError) {
    _ = try reader.take(UInt32.self)
    flags = Flags(rawValue: try reader.take())
    index = try reader.take()
    count = try reader.take()
  }

  func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(16 as UInt32)
    writer.put(flags.rawValue)
    writer.put(index)
    writer.put(count)
    return writer.bytes
  }
}

/// DEVICE_SET_IRQS: u32 argsz | u32 flags | u32 index | u32 start | u32 count, then the data.
public struct SetIRQsMessage: Hashable, Sendable {
  public enum Action: UInt32, CaseIterable, Hashable, Sendable {
    case mask = 8
    case unmask = 16
    case trigger = 32
  }

  public enum Values: Hashable, Sendable {
    case none
    /// One for each interrupt from `start` on.
    case truths([Bool])
    /// The descriptors that come along; none of them takes the assigned ones away.
    case eventDescriptors
  }

  public var index: UInt32
  public var start: UInt32
  public var count: UInt32
  public var action: Action
  public var values: Values

  public init(
    index: UInt32, start: UInt32 = 0, count: UInt32, action: Action, values: Values = .none
  ) {
    if case .truths(let truths) = values {
      precondition(truths.count == Int(count), "a value for each interrupt")
    }
    self.index = index
    self.start = start
    self.count = count
    self.action = action
    self.values = values
  }

  static let byteCount = 20

  init(_ reader: inout WireReader) throws(VFIOUserError) {
    let argsz: UInt32 = try reader.take()
    let flags: UInt32 = try reader.take()
    index = try reader.take()
    start = try reader.take()
    count = try reader.take()
    try reader.require(argsz >= UInt32(Self.byteCount), "argsz \(argsz)")
    guard flags & ~0x3f == 0, let action = Action(rawValue: flags & 0x38) else {
      throw reader.malformed("flags 0x\(String(flags, radix: 16))")
    }
    self.action = action
    try reader.require(
      !start.addingReportingOverflow(count).overflow, "\(count) interrupts from \(start)")
    switch flags & 7 {
    case 1: values = .none
    case 2: values = .truths(try reader.takeBytes(Int(count)).map { $0 != 0 })
    case 4: values = .eventDescriptors
    default: throw reader.malformed("flags 0x\(String(flags, radix: 16))")
    }
  }

  func encoded() -> [UInt8] {
    var kind: UInt32 = 1
    var data: [UInt8] = []
    switch values {
    case .none: break
    case .truths(let truths):
      kind = 2
      data = truths.map { $0 ? 1 : 0 }
    case .eventDescriptors: kind = 4
    }
    var writer = WireWriter()
    writer.put(UInt32(Self.byteCount + data.count))
    writer.put(action.rawValue | kind)
    writer.put(index)
    writer.put(start)
    writer.put(count)
    writer.put(data)
    return writer.bytes
  }
}
