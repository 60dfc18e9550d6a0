import EventTrace
public import GuestDirtyLog
import Locking

/// The log's readers, by way of the tracker: what they do is part of the event record. Whoever goes
/// to the log itself leaves no trace, and a replay knows nothing of it.
extension DirtyTracker {
  /// - Parameter startsDirty: everything is dirty for it: the first pre-copy pass.
  public func addConsumer(
    _ name: String, startsDirty: Bool
  ) throws(GuestDirtyLogError) -> ConsumerID {
    guard let record = settings.record else {
      return try log.addConsumer(name, startsDirty: startsDirty)
    }
    return try gate.withLock { (_) throws(GuestDirtyLogError) -> ConsumerID in
      // Its number is part of the event, and known afterwards. A refusal changes nothing.
      let consumer = try log.addConsumer(name, startsDirty: startsDirty)
      record.append(
        .consumerAdded(
          consumer: UInt64(consumer.rawValue), name: name, startsDirty: startsDirty))
      return consumer
    }
  }

  public func removeConsumer(_ consumer: ConsumerID) {
    taking(.consumerRemoved(consumer: UInt64(consumer.rawValue))) { log.removeConsumer(consumer) }
  }

  public func harvest(
    for consumer: ConsumerID, pageCountMax: UInt64, runCountMax: Int
  ) -> Harvest {
    guard let record = settings.record else {
      return log.harvest(for: consumer, pageCountMax: pageCountMax, runCountMax: runCountMax)
    }
    return gate.withLock { _ in
      let harvest = log.harvest(
        for: consumer, pageCountMax: pageCountMax, runCountMax: runCountMax)
      record.append(
        .harvested(
          consumer: UInt64(consumer.rawValue), number: harvest.number,
          pageCountMax: pageCountMax, runCountMax: UInt64(runCountMax)))
      return harvest
    }
  }

  public func delivered(_ harvest: Harvest) {
    taking(
      .delivered(consumer: UInt64(harvest.consumer.rawValue), number: harvest.number)
    ) { log.delivered(harvest) }
  }

  @discardableResult
  public func putBack(_ harvest: Harvest) -> MarkCount {
    taking(.putBack(consumer: UInt64(harvest.consumer.rawValue), number: harvest.number)) {
      log.putBack(harvest)
    }
  }

  @discardableResult
  public func putBackAll(for consumer: ConsumerID) -> MarkCount {
    taking(.putBackAll(consumer: UInt64(consumer.rawValue))) { log.putBackAll(for: consumer) }
  }

  public func markAllDirtyForGood(because reason: String) {
    taking(.allMarkedDirty(reason: reason)) { log.markAllDirtyForGood(because: reason) }
  }

  public func resetAllDirty() { taking(.allDirtyReset) { log.resetAllDirty() } }

  @discardableResult
  public func markEverything() -> MarkCount {
    taking(.everythingMarked) { log.markEverything(by: .conservative(nil)) }
  }
}
