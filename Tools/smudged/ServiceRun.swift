import TrackerService

/// From the configuration to the exit status: starts every VM, says that all listen, waits for the
/// end, and ends them.
struct ServiceRun {
  let vms: [VMConfiguration]
  let log: ServiceLog
  let notification: ServiceNotification
  let start: (VMConfiguration) throws -> any RunningVM
  /// Returns the name of the signal that ended the wait.
  let awaitEnd: () -> String
  /// Names of inherited sockets that nobody took.
  let unused: () -> [String]

  func run() -> Int32 {
    var running: [any RunningVM] = []
    for vm in vms {
      do { running.append(try start(vm)) } catch {
        log.error(vm: vm.name, "\(error)")
        report(notification.status("VM \(vm.name): \(error)"))
        end(running)
        return ServiceStatus.failed.rawValue
      }
    }
    for name in unused() {
      log.warning(
        "inherited socket \(name) belongs to nothing in the configuration; nobody answers")
    }
    let ready = "ready: " + vms.map { "VM \($0.name)" }.joined(separator: ", ")
    log.notice(ready)
    report(notification.ready(status: ready))
    let signal = awaitEnd()
    report(notification.stopping())
    log.notice("ending, by \(signal)")
    end(running)
    log.notice("ended")
    return ServiceStatus.ended.rawValue
  }

  private func report(_ outcome: NotificationOutcome) {
    if let problem = outcome.problem { log.warning(problem) }
  }

  /// The last that was started ends first.
  private func end(_ running: [any RunningVM]) {
    for vm in running.reversed() { vm.end() }
  }
}
