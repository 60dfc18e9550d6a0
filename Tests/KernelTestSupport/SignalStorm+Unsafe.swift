import CTestLinux

/// Signals without end for this thread while a body runs.
///
/// Unsafe because the sending thread is handed an address. Sound because the storm stays at it
/// until the sender has ended.
public enum SignalStorm {
  /// - Returns: nil when no thread could be started.
  public static func during<Result>(_ body: () throws -> Result) rethrows -> Result? {
    let storm = UnsafeMutablePointer<smudge_signal_storm>.allocate(capacity: 1)
    unsafe storm.initialize(to: smudge_signal_storm())
    defer { unsafe storm.deallocate() }
    guard unsafe smudge_signal_storm_start(storm) == 0 else { return nil }
    defer { unsafe smudge_signal_storm_stop(storm) }
    return try body()
  }
}
