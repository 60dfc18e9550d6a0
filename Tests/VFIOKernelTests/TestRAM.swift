import Addressing
import Locking
import Simulation
import TestSupport

/// Guest memory of which only is known how often each page was written.
final class TestRAM: SimulatedMemory {
  let gpa: GPARange
  private let generations = Mutex<[UInt64: UInt64]>([:])

  init(first: GPA = GPA(0x4000_0000), pageCount: UInt64 = 256) {
    gpa = AddressRange(first: first, last: GPA(first.rawValue + (pageCount << 12) - 1))
  }

  /// By GPA page number; pages never written are absent.
  var pages: [UInt64: UInt64] { generations.withLock { $0 } }

  func write(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard let range = GPARange(first: gpa, byteCount: UInt64(bytes.byteCount)),
      self.gpa.contains(range)
    else { return false }
    generations.withLock { $0[gpa.rawValue >> 12, default: 0] += 1 }
    return true
  }

  func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool { self.gpa.contains(gpa) }
}

extension DMAPort {
  func touch(_ iova: IOVA) -> GPA? {
    FakeMemory.withSpan([1, 2, 3, 4]) { write($0, at: iova) }
  }
}
