import DeviceMigration

/// Where the guest is when the tool ends.
enum GuestPlace: String, Encodable, Sendable {
  /// It was never started.
  case none
  /// It runs at the source.
  case source
  /// It is at the source with all its state, and does not run.
  case sourceStopped = "source-stopped"
  case destination
  /// In a file, for a destination to come.
  case stream
  /// It may run at the destination; it does not at the source.
  case unknown

  /// After a migration that failed.
  init(_ error: MigrationError, isRunning: Bool) {
    if case .outcomeUnknown = error.cause {
      self = .unknown
    } else {
      self = isRunning ? .source : .sourceStopped
    }
  }

  /// The status of a failure that left it there.
  var status: ToolStatus {
    switch self {
    case .none, .source: .failed
    case .sourceStopped: .stopped
    case .unknown: .unknown
    case .destination, .stream: .notVerified
    }
  }
}
