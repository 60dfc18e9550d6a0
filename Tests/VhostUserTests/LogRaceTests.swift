import Addressing
import Glibc
import Locking
import Simulation
import TestSupport
import Testing

@testable import VhostUser

/// Marks from two threads while the log is replaced.
@Suite(.serialized) struct LogRaceTests {
  /// What was found in one log: while it was current, and once its replacement had been answered.
  private struct Race {
    var marked: [Set<UInt64>] = [[], []]
    var found: Set<UInt64> = []
    var late: [UInt64] = []
  }

  private static let pageCount: UInt64 = 32768

  /// Two threads mark pages of their own; each page once. A third replaces the log, takes what is
  /// in the old one after that, and later looks whether anything came after.
  private func race(seed: UInt64, forgets: Bool) throws -> Race {
    let log = SharedDirtyLog()
    let description = LogDescription(byteCount: Self.pageCount / 8, offset: 0)
    let files = (0..<40).map { _ in LogFile(byteCount: Self.pageCount / 8) }
    try log.replace(with: description, of: files[0].descriptor)
    let marked = Mutex([Set<UInt64>(), Set<UInt64>()])
    let progress = Mutex<[UInt64]>([0, 0])
    let threads = try (0..<2).map { index in
      try SimulatedThread(name: "marker \(index)") {
        var random = SeededGenerator(seed: seed + UInt64(index))
        var page = UInt64(index)
        var done: Set<UInt64> = []
        while page < Self.pageCount {
          let isRun = random.once(in: 2)
          let range = SharedDirtyLogTests.pages(page, page)
          do throws(VhostUserError) {
            if isRun {
              try log.mark(range)
            } else {
              let words: [UInt64] = [1, 0]
              try log.mark(words.span, from: range.first)
            }
            done.insert(page)
          } catch {}
          page += 2
          // Neither runs ahead of the other, so that marks and replacements meet.
          let reached = page
          progress.withLock { $0[index] = reached }
          let due = min(40, reached * 50 / Self.pageCount)
          while log.epoch + 1 < due { sched_yield() }
        }
        marked.withLock { $0[index] = done }
      }
    }
    var race = Race()
    var logs: [[UInt64]] = []
    for index in 1..<files.count {
      let due = UInt64(index) * Self.pageCount / 50
      while progress.withLock({ $0.max() ?? 0 }) < due { sched_yield() }
      try log.replace(with: description, of: files[index].descriptor)
      logs.append(files[index - 1].takePages())
    }
    for thread in threads { thread.join() }
    log.close()
    logs.append(files[files.count - 1].takePages())
    // A fault: the fullest one is dropped.
    if forgets { logs.sort { $0.count < $1.count } }
    for pages in forgets ? logs.dropLast() : logs[...] { race.found.formUnion(pages) }
    for file in files { race.late += file.takePages() }
    race.marked = marked.withLock { $0 }
    return race
  }

  @Test func `no mark is lost or late while the log is replaced`() throws {
    let base = TestSeed.seed(default: 0x7263)
    for seed in base..<(base + 10) {
      let race = try race(seed: seed, forgets: false)
      #expect(race.marked[0].count == 16384 && race.marked[1].count == 16384)
      #expect(race.found == race.marked[0].union(race.marked[1]))
      #expect(race.late == [])
    }
  }

  /// The same with a log whose pages nobody reads.
  @Test func `the race notices a log that is dropped unread`() throws {
    let race = try race(seed: 1, forgets: true)
    #expect(race.found != race.marked[0].union(race.marked[1]))
  }
}
