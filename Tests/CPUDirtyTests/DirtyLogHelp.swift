import Addressing
import GuestDirtyLog

/// A log of some regions with one reader.
struct LogWithReader {
  let log = GuestDirtyLog()
  let reader: ConsumerID

  init(_ regions: [RAMRegion]) throws {
    for region in regions { try log.addRegion(region) }
    reader = try log.addConsumer("test", startsDirty: false)
  }

  /// The dirty pages, by number, taken out.
  func take() -> [UInt64] {
    let harvest = log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
    log.delivered(harvest)
    return harvest.runs.flatMap { run in
      Array((run.first.rawValue / 4096)...(run.last.rawValue / 4096))
    }
  }
}
