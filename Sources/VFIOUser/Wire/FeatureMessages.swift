public import Addressing
import DeviceMigration

/// Features of DEVICE_FEATURE that this protocol has.
public enum VFIOUserFeature: UInt16, CaseIterable, Hashable, Sendable {
  case migration = 1
  case deviceState = 2
  case startLogging = 6
  case stopLogging = 7
  case reportLogging = 8
}

/// DEVICE_FEATURE: u32 argsz | u32 flags, then what the feature says. The answer has the same form.
public struct FeatureMessage: Hashable, Sendable {
  public enum Use: Hashable, Sendable {
    case get
    case set
    /// Whether the uses named are possible; changes nothing.
    case probe(get: Bool, set: Bool)
  }

  /// A number that may be no feature of this protocol.
  public var feature: UInt16
  public var use: Use
  /// Bytes of the answer the sender has room for; in an answer, its bytes.
  public var argsz: UInt32
  public var data: [UInt8]

  /// - Parameter answerByteCount: of `data` in the answer; nil: as much as here.
  public init(
    _ feature: VFIOUserFeature, _ use: Use, data: [UInt8] = [], answerByteCount: Int? = nil
  ) {
    self.feature = feature.rawValue
    self.use = use
    self.data = data
    self.argsz = UInt32(clamping: 8 + max(answerByteCount ?? 0, data.count))
  }

  init(_ reader: inout WireReader) throws(VFIOUserError) {
    argsz = try reader.take()
    let flags: UInt32 = try reader.take()
    try reader.require(argsz >= 8, "argsz \(argsz)")
    feature = UInt16(truncatingIfNeeded: flags)
    switch flags >> 16 {
    case 1: use = .get
    case 2: use = .set
    case let bits where bits & ~7 == 0 && bits & 4 != 0:
      use = .probe(get: bits & 1 != 0, set: bits & 2 != 0)
    default: throw reader.malformed("flags 0x\(String(flags, radix: 16))")
    }
    data = reader.takeRest()
  }

  func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(argsz)
    let bits: UInt32
    switch use {
    case .get: bits = 1
    case .set: bits = 2
    case .probe(let get, let set): bits = 4 | (get ? 1 : 0) | (set ? 2 : 0)
    }
    writer.put(UInt32(feature) | bits << 16)
    writer.put(data)
    return writer.bytes
  }

  /// The answer with `data`.
  func answer(_ data: [UInt8]) -> FeatureMessage {
    var answer = self
    answer.data = data
    answer.argsz = UInt32(8 + data.count)
    return answer
  }
}

/// What SET of DMA_LOGGING_START says: u64 page size | u32 count | u32 0, then pairs of IOVA and
/// length.
public struct LoggingStartMessage: Hashable, Sendable {
  /// A hint; the answer has what the device took.
  public var pageSize: UInt64
  /// Empty: all of the space.
  public var ranges: [IOVARange]

  public init(pageSize: UInt64, ranges: [IOVARange]) {
    self.pageSize = pageSize
    self.ranges = ranges
  }

  public init(decoding data: [UInt8]) throws(VFIOUserError) {
    var reader = WireReader(data, "DMA_LOGGING_START")
    pageSize = try reader.take()
    let count: UInt32 = try reader.take()
    _ = try reader.take(UInt32.self)
    try reader.require(pageSize.nonzeroBitCount == 1, "pages of \(pageSize) bytes")
    try reader.require(Int(count) <= reader.leftCount / 16, "\(count) ranges")
    ranges = []
    for _ in 0..<count {
      let first: UInt64 = try reader.take()
      let length: UInt64 = try reader.take()
      guard let range = IOVARange(first: IOVA(first), byteCount: length) else {
        throw reader.malformed("\(length) bytes at IOVA \(IOVA(first))")
      }
      ranges.append(range)
    }
  }

  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(pageSize)
    writer.put(UInt32(ranges.count))
    writer.put(0 as UInt32)
    for range in ranges {
      writer.put(range.first.rawValue)
      writer.put(range.lastOffset &+ 1)
    }
    return writer.bytes
  }
}

/// What GET of DMA_LOGGING_REPORT asks: u64 IOVA | u64 length | u64 page size; the answer has them
/// again and the bitmap, bit n for the page at IOVA + n pages.
public struct LoggingReportMessage: Hashable, Sendable {
  public var range: IOVARange
  public var pageSize: UInt64

  public init(range: IOVARange, pageSize: UInt64) {
    precondition(range.byteCount != nil, "2^64 bytes have no 64-bit length")
    self.range = range
    self.pageSize = pageSize
  }

  static let byteCount = 24

  public var bitmapByteCount: UInt64 {
    DMAUnmapMessage.bitmapByteCount(size: range.lastOffset &+ 1, pageSize: pageSize)
  }

  public init(decoding data: [UInt8]) throws(VFIOUserError) {
    var reader = WireReader(data, "DMA_LOGGING_REPORT")
    let first: UInt64 = try reader.take()
    let length: UInt64 = try reader.take()
    pageSize = try reader.take()
    try reader.require(pageSize.nonzeroBitCount == 1, "pages of \(pageSize) bytes")
    guard let range = IOVARange(first: IOVA(first), byteCount: length) else {
      throw reader.malformed("\(length) bytes at IOVA \(IOVA(first))")
    }
    self.range = range
  }

  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(range.first.rawValue)
    writer.put(range.lastOffset &+ 1)
    writer.put(pageSize)
    return writer.bytes
  }
}

/// What MIG_DEVICE_STATE says, both ways: u32 state | u32 descriptor, which is not used.
struct DeviceStateMessage: Hashable, Sendable {
  var state: DeviceState

  init(state: DeviceState) { self.state = state }

  init(decoding data: [UInt8]) throws(VFIOUserError) {
    var reader = WireReader(data, "MIG_DEVICE_STATE")
    let number: UInt32 = try reader.take()
    _ = try reader.take(UInt32.self)
    guard let state = DeviceState(rawValue: number) else {
      throw reader.malformed("\(number) is no state")
    }
    self.state = state
  }

  func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(state.rawValue)
    writer.put(0 as UInt32)
    return writer.bytes
  }
}
