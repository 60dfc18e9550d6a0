/// A step left out on purpose, to prove that a check notices: `--break`.
public enum ServiceOmission: String, Sendable, Hashable, CaseIterable {
  /// A stop is answered without collecting what was written last.
  case finalSync = "final-sync"
  /// The place of a dirty IOVA is looked up when the log is read, not when the page was mapped.
  case lateLookup = "late-lookup"
  /// An unmap collects no dirt.
  case unmap
}
