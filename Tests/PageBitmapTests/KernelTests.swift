import PageBitmap
import Testing

/// Suites that force a kernel level, which holds for the whole process: one after the other.
@Suite(.serialized) enum KernelTests {
  /// Runs `body` with each level the CPU has, then goes back to the best.
  static func atEveryLevel(_ body: (Int) throws -> Void) throws {
    defer { _ = KernelLevel.force(KernelLevel.best) }
    for level in 0...KernelLevel.best {
      #expect(KernelLevel.force(level))
      #expect(KernelLevel.current == level)
      try body(level)
    }
  }
}
