import Addressing
import DMAContainer
import EventTrace
public import GuestDirtyLog
import Locking

extension DirtyTracker {
  public var migrationBlockers: [String] { liveContainers.flatMap { $0.blockers() } }

  public var heldBackPageCount: UInt64 { log.heldBackPageCount }

  public func startTracking() -> SyncReport {
    taking(.globalLogStarted) {
      control.withLock { control in
        var report = SyncReport()
        control.isTracking = true
        for tracked in liveContainers {
          tracked.operation.withLock { (op: inout ContainerOperation) in
            tracked.beginShare(&op)
            tracked.start(&op)
            tracked.takeShare(&op, into: &report)
          }
        }
        startCPU(&report)
        report.notes.append(contentsOf: notes.withLock { $0.take() })
        return report
      }
    }
  }

  public func stopTracking() -> SyncReport {
    taking(.globalLogStopped) {
      control.withLock { control in
        var report = SyncReport()
        control.isTracking = false
        for tracked in liveContainers {
          tracked.operation.withLock { (op: inout ContainerOperation) in
            tracked.beginShare(&op)
            tracked.stop(&op)
            tracked.takeShare(&op, into: &report)
          }
        }
        cpu.withLock { cpu in
          if cpu.hasStarted { cpu.source?.stop() }
          cpu.hasStarted = false
          cpu.failure = nil
        }
        return report
      }
    }
  }

  public func sync(isFinal: Bool) -> SyncReport {
    taking(.synced(isFinal: isFinal)) { sync(nil, isFinal: isFinal) }
  }

  /// - Parameter range: what the caller is about to read. A container that is not remapped is asked
  ///   for that only; where IOVA are the guest's choice, all of it is.
  func sync(_ range: GPARange?, isFinal: Bool) -> SyncReport {
    var report = SyncReport(isFinal: isFinal)
    if isFinal, settings.omitting.contains(.finalSync) { return report }
    let containers = liveContainers
    let unasked = settings.omitting.contains(.query) ? firstExact(of: containers) : nil
    for tracked in containers {
      tracked.operation.withLock { (op: inout ContainerOperation) in
        guard !op.isRemoved else { return }
        var part = IOVARange.wholeSpace
        if let range, op.addressSpace == .identity {
          let whole = range.expanded(to: policy.pageSize)
          part = AddressRange(first: IOVA(whole.first.rawValue), last: IOVA(whole.last.rawValue))
        }
        tracked.beginShare(&op)
        tracked.sync(&op, in: part, isFinal: isFinal, asks: tracked.id != unasked)
        tracked.takeShare(&op, into: &report)
      }
    }
    collectCPU(&report)
    report.notes.append(contentsOf: notes.withLock { $0.take() })
    return report
  }

  /// The first container with a log that knows what was written.
  private func firstExact(of containers: [TrackedContainer]) -> ContainerID? {
    containers.first { tracked in
      tracked.operation.withLock { (op: inout ContainerOperation) in
        op.logs.contains {
          $0.mode == .logging
            && ($0.capabilities.scope == .deviceLog || $0.capabilities.scope == .iommuHardware)
        }
      }
    }?.id
  }

  /// With a record, by way of a log of its own, from which it is known what was found.
  private func collect(from source: any CPUDirtySource) throws(CPUDirtyError) -> UInt64 {
    guard let record = settings.record else { return try source.collect(into: log) }
    let found = GuestDirtyLog(pageSize: log.pageSize)
    for region in log.regions { try? found.addRegion(region) }
    guard let reader = try? found.addConsumer("record", startsDirty: false) else {
      throw CPUDirtyError(
        object: source.name, operation: "recording what it found", errno: 0, detail: "no memory")
    }
    var failure: CPUDirtyError?
    do throws(CPUDirtyError) {
      _ = try source.collect(into: found)
    } catch {
      failure = error
    }
    let runs = found.peek(for: reader, runCountMax: Int.max)
    var count = MarkCount()
    for run in runs { count += log.mark(run, by: .vcpu) }
    record.append(
      .vcpuCollected(
        runs, failure: failure.map { TraceFailure(errno: $0.errno, detail: $0.detail) }))
    if let failure { throw failure }
    return count.dirtyPages
  }

  private func startCPU(_ report: inout SyncReport) {
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
  private func collectCPU(_ report: inout SyncReport) {
    cpu.withLock { cpu in
      guard let source = cpu.source else { return }
      guard cpu.hasStarted, cpu.failure == nil else {
        settings.record?.append(
          .vcpuCollected([], failure: TraceFailure(errno: 0, detail: cpu.failure ?? "")))
        report.vcpuDirtyPages &+= log.markEverything(by: .conservative(nil)).dirtyPages
        report.notes.append("\(source.name) does not run; every page is marked dirty")
        return
      }
      do throws(CPUDirtyError) {
        report.vcpuDirtyPages &+= try collect(from: source)
      } catch {
        report.vcpuDirtyPages &+= log.markEverything(by: .conservative(nil)).dirtyPages
        report.notes.append("\(error); every page is marked dirty")
      }
    }
  }
}
