import Addressing
import GuestDirtyLog

/// vCPUs that write pages 3 and 4 between any two collections.
final class FixedCPU: CPUDirtySource {
  let name = "fixed"
  func start() throws(CPUDirtyError) {}
  func stop() {}
  func collect(into log: GuestDirtyLog) throws(CPUDirtyError) -> UInt64 {
    log.mark(World.gpa(3, 2), by: .vcpu).dirtyPages
  }
}
