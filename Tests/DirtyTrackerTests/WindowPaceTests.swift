import DirtyTracker
import Simulation
import Testing

/// Windows against backends whose calls cost something fixed and something for each byte of bitmap.
@Suite struct WindowPaceTests {
  /// A backend that takes so long, and a sync of 32 MiB of bitmap after another.
  private struct Backend {
    var fixedNanoseconds: Double
    var nanosecondsPerByte: Double
    var bitmapByteCount: UInt64 = 32 << 20
    var pace = WindowPace(hasClock: true)
    /// Every so many steps one takes 5 ms longer: its thread was taken off its processor.
    var interruptedEvery = Int.max
    private(set) var steps = 0

    init(fixed: Double, perByte: Double) {
      (fixedNanoseconds, nanosecondsPerByte) = (fixed, perByte)
    }

    func nanoseconds(_ byteCount: UInt64) -> Double {
      fixedNanoseconds + nanosecondsPerByte * Double(byteCount)
    }

    /// - Returns: what one sync took, and its longest step.
    mutating func sync() -> (all: Double, longest: Double) {
      var (all, longest) = (0.0, 0.0)
      var left = bitmapByteCount
      while left > 0 {
        let byteCount = min(left, pace.windowByteCountMax)
        let took = nanoseconds(byteCount)
        steps += 1
        let late = steps % interruptedEvery == 0 ? 5e6 : 0
        pace.learn(byteCount: byteCount, nanoseconds: UInt64(took + late))
        (all, longest) = (all + took, max(longest, took))
        left -= byteCount
      }
      return (all, longest)
    }

    /// The last of so many syncs.
    mutating func syncs(_ count: Int) -> (all: Double, longest: Double) {
      for _ in 1..<count { _ = sync() }
      return sync()
    }
  }

  @Test(arguments: [0.03, 1, 30, 200])
  func `a call whose cost is its window takes a millisecond, or the smallest window`(
    perByte: Double
  ) {
    var backend = Backend(fixed: 300, perByte: perByte)
    let (all, longest) = backend.syncs(8)
    let smallest = backend.nanoseconds(4 << 10)
    #expect(longest <= max(1.25e6, smallest))
    #expect(all <= 1.05 * backend.nanoseconds(32 << 20))
  }

  @Test func `a backend that becomes slower meets smaller windows within a few steps`() {
    var backend = Backend(fixed: 300, perByte: 0.5)
    _ = backend.syncs(4)
    backend.nanosecondsPerByte = 50
    var steps = 0
    while backend.nanoseconds(backend.pace.windowByteCountMax) > 1.25e6 {
      let window = backend.pace.windowByteCountMax
      backend.pace.learn(
        byteCount: window, nanoseconds: UInt64(backend.nanoseconds(window)))
      steps += 1
      #expect(steps < 40)
      if steps >= 40 { return }
    }
  }

  /// type1 steps over all mappings in every call: no window makes it quick.
  @Test(arguments: [0.9e6, 2e6, 8e6, 50e6])
  func `a call that is mostly fixed cost gets windows that are worth it`(fixed: Double) {
    var backend = Backend(fixed: fixed, perByte: 1)
    let (all, longest) = backend.syncs(12)
    let whole = backend.nanoseconds(32 << 20)
    // Half of a call at least is spent on its window, as far as there is one so large.
    #expect(all <= 2.6 * whole)
    #expect(longest <= max(6 * fixed, 1.25e6))
  }

  @Test func `what is fixed and goes away, as mappings go, is noticed`() {
    var backend = Backend(fixed: 20e6, perByte: 10)
    _ = backend.syncs(12)
    #expect(backend.pace.windowByteCountMax > 1 << 20)
    backend.fixedNanoseconds = 1000
    let (_, longest) = backend.syncs(400)
    #expect(longest <= 1.3e6)
  }

  @Test func `a step that was interrupted changes nothing for long`() {
    var backend = Backend(fixed: 300, perByte: 30)
    backend.interruptedEvery = 7
    let (all, longest) = backend.syncs(8)
    #expect(longest <= 1.25e6)
    #expect(all <= 1.1 * backend.nanoseconds(32 << 20))
    #expect(backend.pace.windowByteCountMax >= 16 << 10)
  }

  @Test func `random backends never leave the limits, and end what they ask for`() {
    var random = SplitMix64(seed: 412)
    for _ in 0..<200 {
      let fixed = Double(1 << random.below(27))
      var backend = Backend(fixed: fixed, perByte: Double(1 << random.below(9)) / 4)
      backend.bitmapByteCount = 8 << random.below(UInt64(23))
      backend.interruptedEvery = Int(2 + random.below(UInt64(30)))
      for _ in 0..<4 {
        _ = backend.sync()
        #expect(backend.pace.windowByteCountMax >= 4 << 10)
        #expect(backend.pace.windowByteCountMax <= 256 << 20)
      }
    }
  }

  @Test func `without a clock windows are as large as the backend takes`() {
    var pace = WindowPace(hasClock: false)
    pace.learn(byteCount: 1 << 20, nanoseconds: 1_000_000_000)
    #expect(pace.windowByteCountMax == .max)
  }
}
