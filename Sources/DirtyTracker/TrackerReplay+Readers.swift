import EventTrace
import GuestDirtyLog

/// The log's readers of a replay, by their recorded numbers.
struct ReplayReaders {
  private var consumers: [UInt64: ConsumerID] = [:]
  private var harvests: [UInt64: Harvest] = [:]

  /// - Returns: what is otherwise than recorded.
  mutating func apply(_ event: TrackerEvent, to tracker: DirtyTracker) -> String? {
    switch event {
    case .consumerAdded(let number, let name, let startsDirty):
      let consumer = try? tracker.addConsumer(name, startsDirty: startsDirty)
      consumers[number] = consumer
      if consumer.map({ UInt64($0.rawValue) }) != number {
        return "consumer \(name) was number \(number) and is not now"
      }
    case .consumerRemoved(let number):
      if let consumer = consumers.removeValue(forKey: number) { tracker.removeConsumer(consumer) }
    case .harvested(let number, let harvest, let pageCountMax, let runCountMax):
      guard let consumer = consumers[number] else { return "consumer \(number) is not there" }
      let again = tracker.harvest(
        for: consumer, pageCountMax: pageCountMax, runCountMax: Int(clamping: runCountMax))
      harvests[harvest] = again
      if again.number != harvest { return "harvest \(harvest) is number \(again.number) now" }
    case .delivered(_, let number):
      if let harvest = harvests.removeValue(forKey: number) { tracker.delivered(harvest) }
    case .putBack(_, let number):
      if let harvest = harvests.removeValue(forKey: number) { tracker.putBack(harvest) }
    case .putBackAll(let number):
      if let consumer = consumers[number] { tracker.putBackAll(for: consumer) }
    case .allMarkedDirty(let reason): tracker.log.markAllDirtyForGood(because: reason)
    case .allDirtyReset: tracker.resetAllDirty()
    case .everythingMarked: tracker.markEverything()
    default: break
    }
    return nil
  }
}
