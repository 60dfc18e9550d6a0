import Addressing

/// The lab's mediated device, see Tools/lab/driver/smudge_mdev.h.
final class PinningDevice {
  enum Operation: UInt32 {
    case pin = 1
    case unpin = 2
    case writePinned = 3
    case writeUnpinned = 4
    case doDMA = 5
    case failState = 6
    case failReport = 7
    case failStream = 8
    case clearJournal = 9
    case failBroken = 10
  }

  enum Kind: UInt64 {
    case pinned = 1
    case unpinned = 2
    case wrote = 3
    case wroteUnpinned = 4
    case sawUnmap = 5
    case entered = 6
    case reported = 7
    case gaveChunk = 8
    case tookChunk = 9
    case refused = 10
  }

  struct Event: Hashable {
    let kind: Kind
    let migrationState: UInt64
    let iova: UInt64
    let byteCount: UInt64
    let value: UInt64
  }

  struct Status: Hashable {
    let eventCount, pinnedPages, unmapCallbacks, unmappedPins, dmaWrites, dmaRefused: UInt64
    let migrationState, loggingRanges: UInt64
  }

  let name: String
  let file: KernelFile

  init(name: String, file: KernelFile) {
    self.name = name
    self.file = file
  }

  static func path(_ name: String) -> String { "/sys/bus/mdev/devices/\(name)" }

  /// Makes a mediated device of the lab's driver, or of another parent.
  /// - Parameters:
  ///   - number: of its name, a UUID.
  ///   - type: what follows the driver's name, which is empty for a parent without a driver.
  static func create(
    _ number: Int, parent: String = "smudge", type: String = "pinning"
  ) throws -> String {
    let digits = String(number)
    let last = String(repeating: "0", count: 12 - digits.count) + digits
    let name = "5d0d6e00-1ab0-4000-8000-\(last)"
    let types = "/sys/class/mdev_bus/\(parent)/mdev_supported_types"
    guard let folder = Folder.names(types)?.first(where: { $0.hasSuffix("-\(type)") }) else {
      throw LabError("\(types) has no \(type)")
    }
    let path = "\(types)/\(folder)/create"
    guard Folder.write(name, to: path) else { throw LabError("\(path) refuses \(name)") }
    return name
  }

  static func remove(_ name: String) { _ = Folder.write("1", to: path(name) + "/remove") }

  /// - Returns: 0, or an errno.
  func order(
    _ operation: Operation, _ iova: UInt64 = 0, byteCount: UInt64 = 0, value: UInt64 = 0
  ) -> Int32 {
    file.write(
      Structure().u32(operation.rawValue).u32(0).u64(iova).u64(byteCount).u64(value).bytes, at: 0)
  }

  func status() throws -> Status {
    let bytes = try file.read(at: 0, byteCount: 64)
    let field = { (index: Int) in Structure.load(bytes, at: index * 8) }
    return Status(
      eventCount: field(0), pinnedPages: field(1), unmapCallbacks: field(2),
      unmappedPins: field(3), dmaWrites: field(4), dmaRefused: field(5), migrationState: field(6),
      loggingRanges: field(7))
  }

  /// What it did since the journal was cleared: the ground truth.
  func journal(from first: UInt64 = 0) throws -> [Event] {
    let count = try status().eventCount
    guard count > first else { return [] }
    let bytes = try file.read(at: 1 << 40 + first * 32, byteCount: Int(count - first) * 32)
    return try stride(from: 0, to: bytes.count, by: 32).map { offset in
      guard let kind = Kind(rawValue: Structure.load(bytes, at: offset, byteCount: 4)) else {
        throw LabError("the journal holds an unknown event")
      }
      return Event(
        kind: kind, migrationState: Structure.load(bytes, at: offset + 4, byteCount: 4),
        iova: Structure.load(bytes, at: offset + 8),
        byteCount: Structure.load(bytes, at: offset + 16),
        value: Structure.load(bytes, at: offset + 24))
    }
  }

  static let memoryOffset: UInt64 = 2 << 40
  static let memoryByteCount = 64 << 10

  func memory() throws -> [UInt8] {
    try file.read(at: Self.memoryOffset, byteCount: Self.memoryByteCount)
  }
}
