/// The migration region of the lab's device by its file alone, without any module of the project.
struct RegionRegisters {
  enum Register: UInt64 {
    case deviceState = 0
    case pendingBytes = 8
    case dataOffset = 16
    case dataSize = 24

    var byteCount: Int { self == .deviceState ? 4 : 8 }
  }

  /// Bits of `device_state`.
  static let running: UInt64 = 1
  static let saving: UInt64 = 2
  static let resuming: UInt64 = 4
  /// What the driver keeps in the others.
  static let ownBits: UInt64 = 0x5a5a_5a58
  private static let base: UInt64 = 9 << 40

  let file: KernelFile

  /// The value, or an errno.
  func read(_ register: Register) -> (value: UInt64, errno: Int32) {
    let (bytes, errno) = file.attempt(
      at: Self.base + register.rawValue, byteCount: register.byteCount)
    return (Structure.load(bytes, at: 0, byteCount: bytes.count), errno)
  }

  /// 0, or an errno.
  func write(_ register: Register, _ value: UInt64) -> Int32 {
    let all = Structure().u64(value).bytes
    return file.write(Array(all.prefix(register.byteCount)), at: Self.base + register.rawValue)
  }

  /// Any access, of any width, from the start of the region.
  func readBytes(_ offset: UInt64, _ byteCount: Int) -> (bytes: [UInt8], errno: Int32) {
    file.attempt(at: Self.base + offset, byteCount: byteCount)
  }

  func writeBytes(_ bytes: [UInt8], _ offset: UInt64) -> Int32 {
    file.write(bytes, at: Self.base + offset)
  }

  /// The three bits; nil when the register cannot be read or the driver's own bits changed.
  var state: UInt64? {
    let (value, errno) = read(.deviceState)
    return errno == 0 && value & ~7 == Self.ownBits ? value & 7 : nil
  }

  func setState(_ bits: UInt64) -> Int32 { write(.deviceState, Self.ownBits | bits) }
}
