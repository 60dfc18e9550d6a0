/// An event with its place and time.
public struct RecordedEvent: Hashable, Sendable {
  public var sequence: UInt64
  /// Nanoseconds by the clock of whoever recorded; 0 when it gave none.
  public var timestampNanoseconds: UInt64
  public var event: TrackerEvent

  public init(sequence: UInt64, timestampNanoseconds: UInt64 = 0, event: TrackerEvent) {
    self.sequence = sequence
    self.timestampNanoseconds = timestampNanoseconds
    self.event = event
  }
}
