import Addressing
import DirtyTracker
import GuestDirtyLog
import TestSupport
import Testing

/// Every sequence of events over four pages in which sends are under way for a while, fail and are
/// put back: tracker, log and reader together, a container of each dirty scope.
@Suite struct ExhaustiveSendTests {
  /// A reader with one send under way at most. What is delivered has the content it had when it was
  /// read, which is after the harvest.
  final class Sender {
    let world: World
    private var underWay: (harvest: Harvest, content: [UInt64: UInt64])?
    /// A planted fault: what could not be sent is forgotten.
    let losesPutBack: Bool

    init(_ kind: ContainerKind, losesPutBack: Bool = false) throws {
      world = try World(kind, pageCount: 4, policy: TrackerPolicy(rearmPageCount: 0))
      self.losesPutBack = losesPutBack
      world.map(0, 2, to: 0)
      world.start()
      world.harvest()
      world.write(0)
    }

    func take() {
      guard underWay == nil else { return }
      let harvest = world.tracker.log.harvest(for: world.reader, pageCountMax: 1, runCountMax: 1)
      var content: [UInt64: UInt64] = [:]
      for run in harvest.runs {
        for page in (run.first.rawValue >> 12)...(run.last.rawValue >> 12) {
          content[page] = world.memory.generation(page)
        }
      }
      underWay = (harvest, content)
    }

    func deliver() {
      guard let sent = underWay else { return }
      underWay = nil
      world.copied.merge(sent.content) { $1 }
      world.tracker.log.delivered(sent.harvest)
    }

    func putBack() {
      guard let sent = underWay else { return }
      underWay = nil
      if losesPutBack {
        world.tracker.log.delivered(sent.harvest)
      } else {
        world.tracker.log.putBack(sent.harvest)
      }
    }

    /// - Returns: pages the destination lacks.
    func finish() -> Set<UInt64> {
      putBack()
      return world.finish()
    }
  }

  static let events: [@Sendable (Sender) -> Void] = [
    { $0.world.map(0, 2, to: 2) }, { $0.world.map(1, to: 1) }, { $0.world.unmap(0) },
    { $0.world.write(0) }, { $0.world.write(1) }, { $0.world.sync() }, { $0.take() },
    { $0.deliver() }, { $0.putBack() },
  ]

  /// - Returns: the sequences after which a page is missing.
  static func failures(
    _ kind: ContainerKind, length: Int, losesPutBack: Bool = false
  ) throws -> [[Int]] {
    var sequence = [Int](repeating: 0, count: length)
    var failed: [[Int]] = []
    while true {
      let sender = try Sender(kind, losesPutBack: losesPutBack)
      for event in sequence { events[event](sender) }
      if !sender.finish().isEmpty { failed.append(sequence) }
      guard let place = sequence.firstIndex(where: { $0 + 1 < events.count }) else { break }
      for index in 0..<place { sequence[index] = 0 }
      sequence[place] += 1
    }
    return failed
  }

  @Test(arguments: [ContainerKind.type1Pinned, .type1DeviceLog, .iommufd, .iommufdNothing])
  func `no sequence of four events with sends that fail loses a page`(kind: ContainerKind) throws {
    #expect(try Self.failures(kind, length: 4) == [])
  }

  @Test func `a put-back that is lost shows within three events`() throws {
    #expect(try !Self.failures(.iommufd, length: 3, losesPutBack: true).isEmpty)
  }
}
