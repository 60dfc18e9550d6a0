public import DeviceMigration
import Locking

/// A BAR of a simulated device.
public struct SimulatedBar: Hashable, Sendable {
  public enum Kind: Hashable, Sendable { case memory32, memory64, io }
  public let index: Int
  public let kind: Kind
  public let isPrefetchable: Bool
  public let byteCount: UInt64

  /// - Precondition: `byteCount` is a power of two of at least 16; a 64-bit BAR is not BAR 5.
  public init(_ index: Int, _ kind: Kind, byteCount: UInt64, isPrefetchable: Bool = false) {
    precondition(byteCount >= 16 && byteCount.nonzeroBitCount == 1, "a power of two")
    precondition((0...5).contains(index) && (kind != .memory64 || index < 5), "no such BAR")
    self.index = index
    self.kind = kind
    self.byteCount = byteCount
    self.isPrefetchable = isPrefetchable
  }
}

/// The configuration space of a simulated device: 256 bytes of which a guest can write only what
/// the specification lets it, with MSI at 0x50 and MSI-X at 0x70.
public final class SimulatedConfigurationSpace: PCIConfigurationSpace {
  struct Inside {
    var bytes: [UInt8]
    var writable: [UInt8]
    var entries: [MSIXEntry]
    var writes: [Int] = []
  }

  static let msi = 0x50
  static let msix = 0x70

  public let name: String
  public let bars: [SimulatedBar]
  public let faults: DeviceFaults
  private let inside: Mutex<Inside>

  /// - Parameter msixEntryCount: 0 for a device without MSI-X, at most 2048.
  public init(
    name: String, vendor: UInt16 = 0x1af4, device: UInt16 = 0x1041, bars: [SimulatedBar],
    hasMSI: Bool = true, msixEntryCount: Int = 8, faults: DeviceFaults = DeviceFaults()
  ) {
    precondition((0...2048).contains(msixEntryCount), "MSI-X has up to 2048 vectors")
    self.name = name
    self.bars = bars
    self.faults = faults
    var image = ConfigurationImage()
    image.put(UInt32(vendor) | UInt32(device) << 16, at: 0, byteCount: 4)
    image.put(0x10, at: 6, byteCount: 2)
    image.allow(0x0547, at: 4, byteCount: 2)
    for bar in bars { image.put(bar) }
    image.link(
      msi: hasMSI ? Self.msi : nil, msix: msixEntryCount > 0 ? Self.msix : nil,
      msixEntryCount: msixEntryCount)
    let entry = MSIXEntry(address: 0, data: 0, control: 1)
    inside = Mutex(
      Inside(
        bytes: image.bytes, writable: image.writable,
        entries: Array(repeating: entry, count: msixEntryCount)))
  }

  /// The configuration bytes and the table as they are.
  public var content: (bytes: [UInt8], entries: [MSIXEntry]) {
    inside.withLock { ($0.bytes, $0.entries) }
  }

  /// Offsets written so far, in order; an entry of the MSI-X table counts as 0x1000 and its index.
  public var writes: [Int] { inside.withLock { $0.writes } }

  public func readConfiguration(at offset: Int, byteCount: Int) throws(DeviceError) -> UInt32 {
    try check(offset, byteCount, "read")
    return inside.withLock { inside in
      var value: UInt32 = 0
      for index in 0..<byteCount {
        value |= UInt32(inside.bytes[offset + index]) << UInt32(8 * index)
      }
      return value
    }
  }

  public func writeConfiguration(
    _ value: UInt32, at offset: Int, byteCount: Int
  ) throws(DeviceError) {
    try check(offset, byteCount, "write")
    inside.withLock { inside in
      inside.writes.append(offset)
      for index in 0..<byteCount {
        let allowed = inside.writable[offset + index]
        let byte = UInt8(truncatingIfNeeded: value >> UInt32(8 * index))
        inside.bytes[offset + index] = inside.bytes[offset + index] & ~allowed | byte & allowed
      }
    }
  }

  public func barByteCount(_ index: Int) throws(DeviceError) -> UInt64 {
    bars.first { $0.index == index }?.byteCount ?? 0
  }

  public func readMSIXEntry(_ index: Int) throws(DeviceError) -> MSIXEntry {
    try checkEntry(index, "read")
    return inside.withLock { $0.entries[index] }
  }

  public func writeMSIXEntry(_ entry: MSIXEntry, at index: Int) throws(DeviceError) {
    try checkEntry(index, "write")
    inside.withLock {
      $0.writes.append(0x1000 + index)
      $0.entries[index] = entry
    }
  }

  private func check(_ offset: Int, _ byteCount: Int, _ verb: String) throws(DeviceError) {
    let operation = "\(verb) configuration byte \(offset)"
    try planned(operation)
    guard [1, 2, 4].contains(byteCount), offset >= 0, offset % byteCount == 0,
      offset + byteCount <= 256
    else { throw DeviceError(object: name, operation: operation, errno: .einval) }
  }

  private func checkEntry(_ index: Int, _ verb: String) throws(DeviceError) {
    let operation = "\(verb) MSI-X entry \(index)"
    try planned(operation)
    guard inside.withLock({ $0.entries.indices.contains(index) }) else {
      throw DeviceError(object: name, operation: operation, errno: .einval)
    }
  }

  private func planned(_ operation: String) throws(DeviceError) {
    switch faults.nextCall() {
    case nil: return
    case .refuse(let errno), .failAfterwards(let errno), .breakDown(let errno):
      throw DeviceError(object: name, operation: operation, errno: errno)
    case .lie: throw DeviceError(object: name, operation: operation, errno: .eio)
    }
  }
}
