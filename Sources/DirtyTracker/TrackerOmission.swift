/// A step left out on purpose, to prove that a verdict notices.
public enum TrackerOmission: String, Sendable, Hashable, CaseIterable {
  /// An unmap collects no dirt.
  case unmap
  /// The first container with a log of its own is not asked in a sync.
  case query
  /// Pages held back are dropped by the final sync.
  case pinned
  /// What is mapped outside the ranges of a device log is ignored, and the log not started anew.
  case rearm
  /// The final sync does nothing.
  case finalSync = "final-sync"
}
