import Addressing
import CSmudge

/// Structs and addresses of a C program, checked.
///
/// Unsafe because they are read and written by address. Sound as far as C allows: null is refused,
/// of a struct as many bytes are used as its size says, and all else is the caller's word.
enum Parameters {
  /// A struct of the caller, with zero for what it is too small to hold.
  static func load<T: BitwiseCopyable>(
    _ pointer: UnsafePointer<T>?, _ zero: T, _ name: StaticString
  ) throws(Failure) -> T {
    guard let pointer = unsafe pointer else { throw .misuse("\(name) is null") }
    let raw = unsafe UnsafeRawPointer(pointer)
    let size = try checked(unsafe raw.load(as: UInt32.self), name)
    let known = MemoryLayout<T>.size
    for offset in known..<max(known, size)
    where unsafe raw.load(fromByteOffset: offset, as: UInt8.self) != 0 {
      throw Failure(
        SMUDGE_E2BIG,
        "\(name) has \(size) bytes, and says something past byte \(known) that this"
          + " library does not know; nothing changed")
    }
    var value = zero
    unsafe withUnsafeMutableBytes(of: &value) { bytes in
      unsafe bytes.copyMemory(
        from: UnsafeRawBufferPointer(start: raw, count: min(size, known)))
    }
    return value
  }

  /// A struct that is to be written, before anything is done.
  static func check<T: BitwiseCopyable>(
    _ pointer: UnsafeMutablePointer<T>?, _ zero: T, _ name: StaticString
  ) throws(Failure) {
    _ = unsafe try load(UnsafePointer(pointer), zero, name)
  }

  /// The same where the caller may want none.
  static func checkIfGiven<T: BitwiseCopyable>(
    _ pointer: UnsafeMutablePointer<T>?, _ zero: T, _ name: StaticString
  ) throws(Failure) {
    if unsafe pointer != nil { unsafe try check(pointer, zero, name) }
  }

  private static func checked(_ size: UInt32, _ name: StaticString) throws(Failure) -> Int {
    guard size >= 8, size <= 4096 else {
      throw .misuse("\(name) says that it has \(size) bytes, set its size to sizeof")
    }
    return Int(size)
  }

  /// Writes as much of the struct as the caller's has room for, its size left as it is. After
  /// `check`.
  static func store<T: BitwiseCopyable>(_ value: T, to pointer: UnsafeMutablePointer<T>?) {
    guard let pointer = unsafe pointer else { return }
    let raw = UnsafeMutableRawPointer(pointer)
    let size = Int(unsafe raw.load(as: UInt32.self))
    unsafe withUnsafeBytes(of: value) { bytes in
      let count = min(size, bytes.count) - 4
      unsafe (raw + 4).copyMemory(from: bytes.baseAddress! + 4, byteCount: count)
    }
  }

  static func string(
    _ pointer: UnsafePointer<CChar>?, _ name: StaticString
  ) throws(Failure) -> String {
    guard let pointer = unsafe pointer else { throw .misuse("\(name) is null") }
    let text = unsafe String(cString: pointer)
    guard !text.isEmpty, text.utf8.count <= Limits.traceStringByteCountMax else {
      throw .misuse("\(name) is empty or longer than \(Limits.traceStringByteCountMax) bytes")
    }
    return text
  }

  /// Copies a text into the caller's memory, cut to its size and ended by 0.
  private static func put(_ text: String, into target: UnsafeMutablePointer<CChar>?, _ size: UInt64)
  {
    guard let target = unsafe target, size > 0 else { return }
    var count = 0
    let room = Int(clamping: size) - 1
    for byte in text.cut(toByteCount: room).utf8 {
      unsafe target[count] = CChar(bitPattern: byte)
      count += 1
    }
    unsafe target[count] = 0
  }

  /// Sentences, one a line.
  static func put(
    lines: [String], into target: UnsafeMutablePointer<CChar>?, _ size: UInt64
  ) {
    unsafe put(lines.map { $0 + "\n" }.joined(), into: target, size)
  }

  static func set<T>(_ pointer: UnsafeMutablePointer<T>?, _ value: T) {
    if let pointer = unsafe pointer { unsafe pointer.pointee = value }
  }

  static func required<T>(
    _ pointer: UnsafeMutablePointer<T>?, _ name: StaticString
  ) throws(Failure) -> UnsafeMutablePointer<T> {
    guard let pointer = unsafe pointer else { throw .misuse("\(name) is null") }
    return unsafe pointer
  }

  /// A range of whole pages by its first address and size.
  static func range<A: Address>(
    _ first: UInt64, _ byteCount: UInt64, _ name: @autoclosure () -> String,
    pageSize: PageSize? = .fourKiB
  ) throws(Failure) -> AddressRange<A> {
    guard byteCount > 0 else { throw .misuse("\(name()) has no bytes") }
    guard let range = AddressRange(first: A(first), byteCount: byteCount) else {
      throw Failure(
        SMUDGE_EOVERFLOW,
        "\(name()) of \(byteCount) bytes at \(A(first)) runs past 2^64-1; nothing changed")
    }
    if let pageSize, !range.isAligned(to: pageSize) {
      throw .misuse("\(name()) \(range) does not consist of whole pages of \(pageSize)")
    }
    return range
  }

  static func flags(
    _ flags: UInt32, known: Int, _ name: StaticString
  ) throws(Failure) {
    guard UInt64(flags) & ~UInt64(known) == 0 else {
      throw .misuse("\(name) 0x\(String(flags, radix: 16)) has one that is not known")
    }
  }
}
