import Addressing
import GuestDirtyLog

/// A whole harvest of a guest of 1 TiB in which nothing, or nearly nothing, is dirty.
enum HarvestBench {
  static let clean = "harvest of a clean 1 TiB guest"
  static let sparse = "harvest with 1000 dirty pages in 1 TiB"

  static var section: Section {
    Section(
      name: "harvest",
      rows: [
        Row(name: clean, peer: "memcpy of 32 MiB", target: 0.01),
        Row(name: sparse, peer: "memcpy of 32 MiB", target: 0.05),
      ]
    ) { recorder, effort in
      let source = Words(count: 4 << 20)
      let copy = Words(count: 4 << 20)
      source.fill { UInt64($0) }
      let log = GuestDirtyLog()
      try log.addRegion(
        RAMRegion(name: "ram", gpa: AddressRange(first: GPA(0), last: GPA((1 << 40) - 1))))
      let consumer = try log.addConsumer("bench", startsDirty: false)
      var random = SplitMix(state: 5)
      // Dirt all over, harvested, so that the summaries have been in use.
      for _ in 0..<1000 { mark(random.below(1 << 28), log) }
      while !takes(log, consumer).isLast {}
      for _ in 0..<effort.repetitions {
        let none = recorder.time(clean) { takes(log, consumer) }
        precondition(none.pageCount == 0 && none.isLast, "nothing is dirty")
        recorder.time(clean, "memcpy of 32 MiB") { copy.copy(from: source) }
        for _ in 0..<1000 { mark(random.below(1 << 28), log) }
        let dirty = log.dirtyPageCount(for: consumer)
        let found = recorder.time(sparse) {
          var found: UInt64 = 0
          var isLast = false
          while !isLast {
            let harvest = takes(log, consumer)
            found += harvest.pageCount
            isLast = harvest.isLast
          }
          return found
        }
        precondition(found == dirty, "what was dirty was harvested")
        recorder.time(sparse, "memcpy of 32 MiB") { copy.copy(from: source) }
      }
    }
  }

  private static func mark(_ page: UInt64, _ log: GuestDirtyLog) {
    log.mark(
      AddressRange(first: GPA(page << 12), last: GPA(page << 12 | 0xfff)), by: .vcpu)
  }

  private static func takes(_ log: GuestDirtyLog, _ consumer: ConsumerID) -> Harvest {
    let harvest = log.harvest(for: consumer, pageCountMax: 1 << 20, runCountMax: 4096)
    log.delivered(harvest)
    return harvest
  }
}
