import IOMMUFD
import Locking

/// The real calls, counted and timed.
final class CountingIOMMUFDCalls: IOMMUFDCalls {
  private let real = LinuxIOMMUFDCalls()
  private let counts = Mutex(CallCounts())

  /// What was called since the last time.
  func take() -> CallCounts {
    counts.withLock { counts in
      defer { counts = CallCounts() }
      return counts
    }
  }

  func open(_ path: String) -> Int32 { real.open(path) }
  func close(_ descriptor: Int32) { real.close(descriptor) }

  func control(
    _ descriptor: Int32, _ request: IOMMUFDRequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    let began = nanoseconds()
    let result = real.control(descriptor, request, &argument)
    let took = nanoseconds() - began
    counts.withLock { $0.note(took) }
    return result
  }
}
