import GuestDirtyLog
import Locking

/// The source of vCPU dirt, started and asked.
extension DirtyTracker {
  func startCPU(_ report: inout SyncReport) {
    cpu.withLock { cpu in
      guard let source = cpu.source, !cpu.hasStarted else { return }
      cpu.hasStarted = true
      do throws(CPUDirtyError) {
        try source.start()
        cpu.failure = nil
      } catch {
        cpu.failure = "\(error)"
        report.notes.append("\(error); every page counts as written by vCPUs")
      }
    }
  }

  /// After the devices: vCPUs may write what a device wrote.
  func collectCPU(_ report: inout SyncReport) {
    cpu.withLock { cpu in
      guard let source = cpu.source else { return }
      guard cpu.hasStarted, cpu.failure == nil else {
        report.vcpuDirtyPages &+= log.markEverything(by: .conservative(nil)).dirtyPages
        report.notes.append("\(source.name) does not run; every page is marked dirty")
        return
      }
      do throws(CPUDirtyError) {
        report.vcpuDirtyPages &+= try source.collect(into: log)
      } catch {
        report.vcpuDirtyPages &+= log.markEverything(by: .conservative(nil)).dirtyPages
        report.notes.append("\(error); every page is marked dirty")
      }
    }
  }
}
