import Foundation
import TestSupport
import Testing

/// Random lives of a guest through the C header, against a copy of its memory: whatever is mapped,
/// unmapped, told late, refused and put back, the copy is whole at the end.
@Suite struct LifeTests {
  /// Of each kind: more than 10,000 in all. A sanitizer makes each many times as long.
  private static let seedCount: UInt64 =
    ProcessInfo.processInfo.environment["SMUDGE_SANITIZER"] == nil ? 1500 : 200
  private static let actCount = 60

  private static func live(
    _ seed: UInt64, _ kinds: [LifeDevice.Kind], forgets: Bool = false
  ) -> LifeWorld {
    let world = LifeWorld(seed: seed, kinds: kinds, forgets: forgets)
    for _ in 0..<actCount where world.problems.isEmpty { world.act() }
    world.finish()
    return world
  }

  @Test(arguments: LifeDevice.Kind.allCases)
  func `a life of a container of each kind loses no page`(kind: LifeDevice.Kind) {
    let first = TestSeed.seed(default: 13_000)
    for seed in first..<(first + Self.seedCount) {
      let world = Self.live(seed, [kind])
      guard world.problems.isEmpty else {
        Issue.record("\(kind), seed \(seed): \(world.problems.prefix(3))")
        return
      }
    }
  }

  @Test func `a life of containers of all kinds loses no page`() {
    let first = TestSeed.seed(default: 14_000)
    for seed in first..<(first + Self.seedCount) {
      let world = Self.live(seed, LifeDevice.Kind.allCases)
      guard world.problems.isEmpty else {
        Issue.record("seed \(seed): \(world.problems.prefix(3))")
        return
      }
    }
  }

  @Test func `a device that forgets what it wrote is noticed`() {
    let noticed = (1..<200 as Range<UInt64>).count { seed in
      !Self.live(seed, [.exact], forgets: true).problems.isEmpty
    }
    #expect(noticed > 20)
  }
}
