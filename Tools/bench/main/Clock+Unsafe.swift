import Glibc

/// Unsafe because clock_gettime takes an address; sound because it is that of a local it fills.
enum Clock {
  static func threadSeconds() -> Double { seconds(CLOCK_THREAD_CPUTIME_ID) }
  /// Of all threads.
  static func processSeconds() -> Double { seconds(CLOCK_PROCESS_CPUTIME_ID) }
  static func wallSeconds() -> Double { seconds(CLOCK_MONOTONIC) }

  private static func seconds(_ clock: clockid_t) -> Double {
    var now = timespec()
    _ = unsafe clock_gettime(clock, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
  }
}
