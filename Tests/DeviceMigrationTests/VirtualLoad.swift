import TestSupport

/// What a sample migration meets, from a seed: chosen once, by what was seen of real ones, and not
/// to be tuned to what the estimator makes of it.
///
/// In one machine: source and destination, two vCPUs, drivers and devices share two processors. A
/// write costs 2 to 5 us and a byte 0.15 to 0.3 ns at the source; the destination takes 0.4 to 1 ns
/// for a byte, buffers hold 0.2 to 4 MiB. While the guest runs all of it takes 1 to 1.6 times as
/// long, from write to write, and once in 64 a processor is away for 1 to 3 ms.
///
/// Over a link: 100 MiB/s, 1 % up or down from write to write, buffers of 0.2 to 1 MiB and a way of
/// 0.1 to 2 ms; the destination keeps up.
struct VirtualLoad {
  enum Place { case oneMachine, rateLimitedLink }

  let place: Place
  var callNanoseconds: Double
  var copyNanosecondsPerByte: Double
  var linkNanosecondsPerByte: Double
  var bufferBytes: Double
  /// There and back.
  var wayNanoseconds: Double
  /// Until `accepted`: a process starts, allocates, brings its devices to RESUMING.
  var startUpNanoseconds: Double
  var walkThereNanoseconds: Double
  /// From the last byte to `loaded`, and from `start` to `running`.
  var loadNanoseconds: Double
  var runNanoseconds: Double
  /// A sync: calls, and a part for each dirty page.
  var syncNanoseconds: Double
  var syncNanosecondsPerPage: Double
  var stopNanoseconds: Double
  var walkNanosecondsPerDevice: Double
  var deviceNanosecondsPerByte: Double
  /// Pages written in a second: those of the hot set, and any others.
  var hotPageCount: Int
  var hotPagesPerSecond: Double
  var coldPagesPerSecond: Double
  var pinnedPageCount: Int
  var deviceBytes: [Int]
  var limitMilliseconds: UInt64
  /// The guest runs, and is in the way.
  var isCrowded = true

  init(_ place: Place, seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    func between(_ low: Double, _ high: Double) -> Double {
      Double.random(in: low...high, using: &random)
    }
    let isLink = place == .rateLimitedLink
    self.place = place
    callNanoseconds = between(2000, 5000)
    copyNanosecondsPerByte = between(0.15, 0.3)
    linkNanosecondsPerByte = isLink ? 1e9 / Double(100 << 20) : between(0.4, 1)
    bufferBytes = isLink ? between(0.2e6, 1e6) : between(0.2e6, 4e6)
    wayNanoseconds = isLink ? between(0.1e6, 2e6) : between(0.02e6, 0.2e6)
    startUpNanoseconds = between(1e6, 40e6)
    walkThereNanoseconds = between(0.05e6, 1e6)
    loadNanoseconds = between(0.2e6, 0.9e6)
    runNanoseconds = between(0.05e6, 0.3e6)
    syncNanoseconds = between(0.3e6, 1.2e6)
    syncNanosecondsPerPage = between(20, 100)
    stopNanoseconds = between(0.05e6, 0.4e6)
    walkNanosecondsPerDevice = between(0.005e6, 0.2e6)
    deviceNanosecondsPerByte = between(0.5, 2)
    hotPageCount = Int(between(500, 3000))
    hotPagesPerSecond = between(5000, 30_000)
    coldPagesPerSecond = isLink ? between(200, 2000) : between(1000, 10_000)
    pinnedPageCount = Int(between(0, 600))
    deviceBytes = (0...random.below(8)).map { _ in Int(between(20e3, 300e3)) }
    limitMilliseconds = UInt64(between(20, 300))
  }

  /// How much longer things take than on processors of their own.
  func crowding(_ random: inout SeededGenerator) -> Double {
    guard isCrowded, place == .oneMachine else { return 1 + share(&random) / 20 }
    return 1 + share(&random) * 0.6
  }

  /// Of the link's time for a byte.
  func linkFactor(_ crowding: Double, _ random: inout SeededGenerator) -> Double {
    place == .oneMachine ? crowding : 0.99 + share(&random) / 50
  }

  /// How long the processor is away, now and then.
  func absence(_ random: inout SeededGenerator) -> Double {
    guard isCrowded, place == .oneMachine, random.once(in: 64) else { return 0 }
    return 1e6 + share(&random) * 2e6
  }

  private func share(_ random: inout SeededGenerator) -> Double {
    Double.random(in: 0...1, using: &random)
  }
}
