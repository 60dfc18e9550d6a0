import DeviceMigration

/// What is inside a simulated device and must arrive with it: queue registers and memory.
///
/// The memory is in pages of 4 KiB, each with a dirty flag for whoever saves it.
public struct DeviceImage: Sendable {
  public static let registerCount = 64
  public static let pageByteCount = 4096

  /// Queue heads and tails, counters.
  public internal(set) var registers: [UInt64]
  public internal(set) var memory: [UInt8]
  var dirty: [Bool]
  var dirtyCount = 0
  /// Where the search for the next dirty page goes on.
  var cursor = 0

  /// A device as it comes out of a reset: its registers say what it is, its memory is zero.
  /// - Precondition: `pageCount > 0`.
  public init(pageCount: Int) {
    precondition(pageCount > 0, "a simulated device has memory")
    registers = Array(repeating: 0, count: Self.registerCount)
    memory = Array(repeating: 0, count: pageCount * Self.pageByteCount)
    dirty = Array(repeating: false, count: pageCount)
  }

  public var pageCount: Int { dirty.count }

  /// One unit of the device's own work: a register counts on, a page of its memory changes.
  mutating func work(_ value: UInt64) {
    let register = Int(value % UInt64(Self.registerCount))
    registers[register] = (registers[register] &+ 1) ^ (value << 32)
    let page = Int((value >> 8) % UInt64(pageCount))
    let offset = page * Self.pageByteCount + Int((value >> 40) % UInt64(Self.pageByteCount - 8))
    for index in 0..<8 { memory[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index)) }
    mark(page)
  }

  mutating func mark(_ page: Int) {
    if !dirty[page] { dirtyCount += 1 }
    dirty[page] = true
  }

  mutating func clean(_ page: Int) {
    if dirty[page] { dirtyCount -= 1 }
    dirty[page] = false
  }

  mutating func takeDirtyPage() -> Int? {
    guard dirtyCount > 0 else { return nil }
    while !dirty[cursor] { cursor = (cursor + 1) % pageCount }
    clean(cursor)
    return cursor
  }

  /// Equal for devices that hold the same.
  public var digest: UInt64 {
    var bytes: [UInt8] = []
    for register in registers {
      for shift in stride(from: 0, to: 64, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: register >> UInt64(shift)))
      }
    }
    return DeviceBytes.digest(memory, seed: DeviceBytes.digest(bytes))
  }
}
