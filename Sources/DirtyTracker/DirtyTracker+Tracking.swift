import Addressing
import DMAContainer
import EventTrace
public import GuestDirtyLog
import Locking

extension DirtyTracker {
  public var migrationBlockers: [String] { liveContainers.flatMap { $0.blockers() } }

  /// Of this tracker's containers: what others on the same log hold back is theirs to release.
  public var heldBackPageCount: UInt64 {
    log.heldBackPageCount(for: Set(liveContainers.map(\.context.holder)))
  }

  public func startTracking() -> SyncReport {
    setTracking(true)
    var report = SyncReport()
    for tracked in liveContainers {
      run(tracked, into: &report) { state in
        state.begin(.startBegan(container: tracked.id.rawValue, paysOwed: false))
        state.beginStart()
        return true
      }
    }
    startCPU(&report)
    report.notes.append(contentsOf: notes.withLock { $0.take() })
    return report
  }

  public func stopTracking() -> SyncReport {
    setTracking(false)
    var report = SyncReport()
    for tracked in liveContainers {
      endCourse(tracked)
      run(tracked, into: &report) { state in
        beginStop(&state)
        return true
      }
    }
    cpu.withLock { cpu in
      if cpu.hasStarted { cpu.source?.stop() }
      cpu.hasStarted = false
      cpu.failure = nil
    }
    return report
  }

  public func sync(isFinal: Bool) -> SyncReport {
    record(.synced(isFinal: isFinal))
    return sync(nil, isFinal: isFinal)
  }

  /// - Parameter range: what the caller is about to read. A container that is not remapped is asked
  ///   for that only; where IOVA are the guest's choice, all of it is.
  func sync(_ range: GPARange?, isFinal: Bool) -> SyncReport {
    var report = SyncReport(isFinal: isFinal)
    if isFinal, settings.omitting.contains(.finalSync) { return report }
    let containers = liveContainers
    let unasked = settings.omitting.contains(.query) ? firstExact(of: containers) : nil
    for tracked in containers {
      let isWhole = run(tracked, isFinal: isFinal, into: &report) { state in
        var request = SyncRequest(isFinal: isFinal, asks: tracked.id != unasked)
        if let range, state.addressSpace == .identity {
          let whole = range.expanded(to: policy.pageSize)
          request.range = AddressRange(
            first: IOVA(whole.first.rawValue), last: IOVA(whole.last.rawValue))
        }
        state.begin(
          .syncBegan(
            container: tracked.id.rawValue, range: request.range, isFinal: isFinal,
            asks: request.asks))
        state.beginSync(request)
        return true
      }
      if !isWhole {
        report.notes.append(
          "\(tracked.name): the sync was ended by a stop of tracking or by a removal")
      }
    }
    collectCPU(&report)
    // Not while a guest is stopped.
    if !isFinal { keepReplayable() }
    report.notes.append(contentsOf: notes.withLock { $0.take() })
    return report
  }

  /// The first container with a log that knows what was written.
  private func firstExact(of containers: [TrackedContainer]) -> ContainerID? {
    containers.first { tracked in
      tracked.operation.withStep { (state: inout ContainerState) in
        state.logs.contains {
          $0.mode == .logging
            && ($0.capabilities.scope == .deviceLog || $0.capabilities.scope == .iommuHardware)
        }
      }
    }?.id
  }
}
