public import Addressing
import Locking
public import Simulation

/// A piece of RAM for containers under test.
///
/// Unsafe because bytes of a raw span are read one by one. Sound because every byte is a `UInt8`
/// and each access is bounded by the span.
public final class ContainerTestMemory: SimulatedMemory {
  public let gpa: GPARange
  private let content: Mutex<[UInt8]>

  public init(first: GPA = GPA(0x4000_0000), pages: UInt64 = 256) {
    gpa = AddressRange(first: first, last: GPA(first.rawValue + (pages << 12) - 1))
    content = Mutex([UInt8](repeating: 0, count: Int(pages) << 12))
  }

  private func offset(_ first: GPA, _ count: Int) -> Int? {
    guard let range = GPARange(first: first, byteCount: UInt64(count)), gpa.contains(range) else {
      return nil
    }
    return Int(first.rawValue - gpa.first.rawValue)
  }

  public func write(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard let start = offset(gpa, bytes.byteCount) else { return false }
    content.withLock { content in
      for index in 0..<bytes.byteCount {
        content[start + index] = unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
      }
    }
    return true
  }

  public func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool {
    guard let start = offset(gpa, buffer.byteCount) else { return false }
    let count = buffer.byteCount
    let piece = content.withLock { Array($0[start..<start + count]) }
    for (index, byte) in piece.enumerated() {
      buffer.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
    }
    return true
  }

  public func bytes(at gpa: GPA, count: Int) -> [UInt8]? {
    guard let start = offset(gpa, count) else { return nil }
    return content.withLock { Array($0[start..<start + count]) }
  }
}

extension DMAPort {
  /// Writes an array.
  public func write(_ bytes: [UInt8], at iova: IOVA) -> GPA? {
    write(unsafe bytes.span.bytes, at: iova)
  }

  public func read(_ count: Int, at iova: IOVA) -> [UInt8]? {
    var content = [UInt8](repeating: 0, count: count)
    var elements = content.mutableSpan
    var buffer = unsafe elements.mutableBytes
    return read(into: &buffer, at: iova) ? content : nil
  }
}
