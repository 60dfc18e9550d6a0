import Addressing
import GuestDirtyLog
import Testing

@Suite struct LogExhaustiveTests {
  /// Two regions of two pages, side by side.
  static let low = RAMRegion(name: "low", gpa: LogPair.range(0, 1))
  static let high = RAMRegion(name: "high", gpa: LogPair.range(2, 3))

  static let held = [
    Mapping(
      iova: IOVARange(first: IOVA(0), byteCount: 3 << 12)!, gpaFirst: GPA(1 << 12),
      permissions: .readWrite)
  ]

  static let alphabet: [LogStep] = [
    .mark(first: 0, last: 0, .vcpu), .mark(first: 1, last: 2, .unmap(ContainerID(0))),
    .mark(first: 3, last: 4, .vcpu),
    .harvest(0, pageCountMax: 4, runCountMax: 4), .harvest(0, pageCountMax: 1, runCountMax: 1),
    .harvest(1, pageCountMax: 2, runCountMax: 4), .delivered(0), .putBack(0), .putBack(1),
    .removeRegion(2), .addRegion(high), .addConsumer(1, startsDirty: false), .removeConsumer(1),
    .holdBack(held, dirty: [IOVARange(first: IOVA(4096), byteCount: 1)!], ContainerID(0)),
    .holdBackRange(first: 2, last: 4, ContainerID(0)), .settle(ContainerID(0)),
  ]

  /// Runs a sequence in a world of four pages.
  static func agrees(_ steps: [LogStep], fault: LogFault = .none) throws -> Bool {
    var pair = LogPair()
    pair.fault = fault
    var isRight = try pair.apply(.addConsumer(0, startsDirty: false))
    isRight = try pair.apply(.addRegion(low)) && isRight
    isRight = try pair.apply(.addRegion(high)) && isRight
    for step in steps where isRight { isRight = try pair.apply(step) }
    return isRight && pair.agrees
  }

  @Test func `every sequence of three steps over four pages agrees with sets`() throws {
    for one in Self.alphabet {
      for two in Self.alphabet {
        for three in Self.alphabet {
          if try !Self.agrees([one, two, three]) {
            Issue.record("\(one), \(two), \(three)")
            return
          }
        }
      }
    }
  }

  @Test func `every fourth and fifth step after two consumers have harvested agrees too`() throws {
    let begin: [LogStep] = [
      .addConsumer(1, startsDirty: true), .harvest(0, pageCountMax: 3, runCountMax: 2),
      .harvest(1, pageCountMax: 2, runCountMax: 1),
    ]
    for four in Self.alphabet {
      for five in Self.alphabet {
        for six in Self.alphabet {
          if try !Self.agrees(begin + [four, five, six]) {
            Issue.record("\(four), \(five), \(six)")
            return
          }
        }
      }
    }
  }

  @Test func `the exhaustive run notices a put-back that is lost`() throws {
    let steps: [LogStep] = [.harvest(0, pageCountMax: 4, runCountMax: 4), .putBack(0)]
    #expect(try Self.agrees(steps))
    #expect(try !Self.agrees(steps, fault: .losesPutBack))
  }
}
