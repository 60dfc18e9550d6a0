/// Something a migration did, when it did it.
public enum MigrationEvent: Sendable {
  case status(MigrationStatus)
  case deviceState(device: String, state: DeviceState)
  case roundBegan(number: Int, remainingBytes: UInt64)
  /// After each batch of pages. `remainingBytes` may grow while the guest writes.
  case progress(round: Int, sentBytes: UInt64, remainingBytes: UInt64)
  case roundEnded(MigrationRound, MigrationDecision)
  /// vCPUs are about to be stopped.
  case stopping(DowntimePrediction?)
  /// So much of their time is taken from the vCPUs.
  case throttled(percent: Int)
  /// A device had new initial data when the vCPUs had stopped; they run again.
  case returnedToRounds
  /// The destination has everything and is about to be told to start: the last moment at which a
  /// cancellation is heeded.
  case starting
  /// A send failed and will be made again.
  case putBack(pages: UInt64)
  case downtimeEnded(DowntimeMeasured)
  case failed(String)
  case note(String)
}

/// Told of events on the thread that drives the migration, between two steps.
public protocol MigrationObserver: AnyObject {
  func migration(_ event: MigrationEvent)
}
