import Glibc

/// Time, and a turn of the processor for others.
///
/// Unsafe because clock_gettime is given an address. Sound because it is that of a local.
enum ServiceClock {
  static var nanoseconds: UInt64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  static func yield() { sched_yield() }
  static func rest(milliseconds: UInt32) { usleep(milliseconds * 1000) }
}
