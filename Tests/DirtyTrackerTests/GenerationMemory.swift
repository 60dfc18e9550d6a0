import Addressing
import Simulation
import Locking

/// Guest memory of which each page holds the number of its last write.
final class GenerationMemory: SimulatedMemory {
  private struct State {
    var pages: [UInt64: UInt64] = [:]
    var number: UInt64 = 0
  }

  let byteCount: UInt64
  private let state = Mutex(State())

  init(pageCount: UInt64) { byteCount = pageCount << 12 }

  func write(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard gpa.rawValue + UInt64(bytes.byteCount) <= byteCount else { return false }
    touch(gpa)
    return true
  }

  /// What is read is the number of the page, so that a reader knows where it was led.
  func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool {
    guard gpa.rawValue + UInt64(buffer.byteCount) <= byteCount else { return false }
    for offset in 0..<buffer.byteCount {
      buffer.storeBytes(
        of: UInt8(truncatingIfNeeded: gpa.rawValue >> 12), toByteOffset: offset, as: UInt8.self)
    }
    return true
  }

  func touch(_ gpa: GPA) {
    state.withLock { state in
      state.number += 1
      state.pages[gpa.rawValue >> 12] = state.number
    }
  }

  /// The generation of one page; 0: never written.
  func generation(_ page: UInt64) -> UInt64 { state.withLock { $0.pages[page] ?? 0 } }

  var pages: [UInt64: UInt64] { state.withLock { $0.pages } }
}
