import IOMMUFD

/// The real calls, counted and timed.
final class CountingIOMMUFDCalls: IOMMUFDCalls {
  private let real = LinuxIOMMUFDCalls()
  let counter = CallCounter()

  func open(_ path: String) -> Int32 { real.open(path) }
  func close(_ descriptor: Int32) { real.close(descriptor) }

  func control(
    _ descriptor: Int32, _ request: IOMMUFDRequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    counter.measured { real.control(descriptor, request, &argument) }
  }
}
