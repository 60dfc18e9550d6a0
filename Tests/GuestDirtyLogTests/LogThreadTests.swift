import Addressing
import Foundation
import GuestDirtyLog
import PageBitmap
import Locking
import Testing

/// Writers stamp pages and mark them; a reader harvests and notes the stamp it saw.
///
/// A page whose stamp is newer than the one the reader saw last has to be dirty in the end.
@Suite struct LogThreadTests {
  static let pageCount = 200_000

  /// So little under one hold of a lock that everybody gets between.
  static var smallHolds: HoldLimits {
    var limits = HoldLimits()
    limits.blockCount = 1
    limits.lineCount = 8
    limits.pageCount = 256
    limits.runCount = 16
    return limits
  }

  final class Stamps: Sendable {
    private let stamps = Mutex([UInt64](repeating: 0, count: LogThreadTests.pageCount))
    func stamp(_ page: Int) { stamps.withLock { $0[page] &+= 1 } }
    var all: [UInt64] { stamps.withLock { $0 } }
    subscript(page: Int) -> UInt64 { stamps.withLock { $0[page] } }
  }

  static func threads(_ bodies: [@Sendable () -> Void]) {
    let done = DispatchGroup()
    for body in bodies {
      done.enter()
      Thread.detachNewThread {
        body()
        done.leave()
      }
    }
    done.wait()
  }

  static func write(
    _ log: GuestDirtyLog, _ stamps: Stamps, _ held: HolderID, seed: Int, loses: Bool
  ) {
    for step in 0..<1500 {
      let page = (step &* 7919 &+ seed &* 104_729) % (pageCount - 200)
      for each in page..<(page + 3) { stamps.stamp(each) }
      if loses && step % 100 == 99 { continue }
      switch step % 4 {
      case 3:
        log.holdBack(LogPair.range(UInt64(page), UInt64(page) + 2), for: held)
      case 0: log.mark(LogPair.range(UInt64(page), UInt64(page) + 2), by: .vcpu)
      case 1:
        let words: [UInt64] = [7]
        log.merge(words: words.span, bitCount: 64, at: GPA(UInt64(page) << 12), by: .vcpu)
      default:
        let iova = IOVARange(first: IOVA(0), byteCount: 3 << 12)!
        let mapping = [
          Mapping(iova: iova, gpaFirst: GPA(UInt64(page) << 12), permissions: .write)
        ]
        do {
          let query = try LogPair.query(mapping, [iova])
          log.scatter(query, through: mapping.span, by: .unmap(ContainerID(0)))
        } catch {
          Issue.record(error)
        }
      }
    }
  }

  /// Harvests, puts every fifth harvest back, and notes what it delivered.
  static func read(_ log: GuestDirtyLog, _ stamps: Stamps, _ id: ConsumerID) -> [UInt64] {
    var seen = [UInt64](repeating: 0, count: pageCount)
    for step in 0..<400 {
      let harvest = log.harvest(for: id, pageCountMax: 3000, runCountMax: 100)
      if step % 5 == 4 {
        log.putBack(harvest)
        continue
      }
      for page in harvest.runs.flatMap({ Array(NaiveDirtyLog.pages($0)) })
      where page < pageCount {
        seen[Int(page)] = stamps[Int(page)]
      }
      log.delivered(harvest)
    }
    return seen
  }

  static func lostPages(loses: Bool) throws -> Int {
    let log = GuestDirtyLog(topology: FakeTopology(nodeCount: 1), limits: smallHolds)
    try log.addRegion(RAMRegion(name: "low", gpa: LogPair.range(0, 70_001)))
    let rest = UInt64(pageCount) - 1
    try log.addRegion(RAMRegion(name: "high", gpa: LogPair.range(70_002, rest)))
    try log.addRegion(RAMRegion(name: "slot", gpa: LogPair.range(1 << 20, 1 << 20 + 50_000)))
    let held = log.makeHolder(for: ContainerID(1))
    let ids = try (0..<2).map { try log.addConsumer("\($0)", startsDirty: false) }
    let stamps = Stamps()
    let seen = Mutex<[Int: [UInt64]]>([:])
    @Sendable func note(_ found: [UInt64], _ index: Int) { seen.withLock { $0[index] = found } }
    var bodies: [@Sendable () -> Void] = [{ change(log, held) }]
    for seed in 0..<3 { bodies.append { write(log, stamps, held, seed: seed, loses: loses) } }
    for (index, id) in ids.enumerated() {
      bodies.append { note(read(log, stamps, id), index) }
    }
    threads(bodies)
    _ = log.releaseHeldBack(for: held, by: .vcpu)
    log.checkInvariants()
    let last = stamps.all
    var lost = 0
    for (index, id) in ids.enumerated() {
      let dirty = log.peek(for: id, runCountMax: .max).flatMap { Array(NaiveDirtyLog.pages($0)) }
      let isDirty = Set(dirty)
      let own = seen.withLock { $0[index] ?? [] }
      lost += last.indices.filter { last[$0] > own[$0] && !isDirty.contains(UInt64($0)) }.count
    }
    return lost
  }

  /// Consumers, regions and held-back pages come and go meanwhile.
  static func change(_ log: GuestDirtyLog, _ held: HolderID) {
    for step in 0..<30 {
      guard let id = try? log.addConsumer("guest", startsDirty: step % 2 == 0) else { continue }
      _ = log.stateDigest()
      _ = try? log.removeRegion(at: GPA(1 << 32))
      log.removeConsumer(id)
      _ = log.settleHeldBack(for: held, by: .vcpu)
      _ = log.heldBackPageCount
      try? log.addRegion(RAMRegion(name: "slot", gpa: LogPair.range(1 << 20, 1 << 20 + 50_000)))
    }
  }

  @Test func `marks racing with harvests, regions and consumers lose no page`() throws {
    #expect(try Self.lostPages(loses: false) == 0)
  }

  @Test func `the race notices marks that are left out`() throws {
    #expect(try Self.lostPages(loses: true) > 0)
  }
}
