import Glibc

/// A reading of CLOCK_MONOTONIC. Unsafe only in handing the kernel a local to fill.
struct MonotonicTime: Comparable, Sendable {
  var nanoseconds: UInt64

  static var now: MonotonicTime {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return MonotonicTime(nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
  }

  func advanced(byNanoseconds more: UInt64) -> MonotonicTime {
    MonotonicTime(nanoseconds: nanoseconds &+ more)
  }

  static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
    left.nanoseconds < right.nanoseconds
  }
}
