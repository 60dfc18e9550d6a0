import Addressing
import DirtyTracker
import GuestDirtyLog
import Locking
import VhostUser

/// What the companion tells. The VMM, and with it the guest, waits until a call returns.
extension VMCourse: CompanionDelegate {
  func connected() { say(.info, "the VMM has connected to the companion") }

  func trackingStarts(isLate: Bool) {
    course.withLock { state in
      // What is dirty from before is the VMM's: it sends all of RAM now.
      if let consumer = state.consumer { log.removeConsumer(consumer) }
      log.resetAllDirty()
      state.consumer = nil
      do throws(GuestDirtyLogError) {
        state.consumer = try log.addConsumer("VMM", startsDirty: false)
      } catch {
        say(.error, "\(error); all of RAM is marked in every sync")
      }
      state.syncCount = 0
      state.markedPageCount = 0
      isTracking.withLock { $0 = true }
      let report = tracker.startTracking()
      for note in report.notes { say(.warning, note) }
      if isLate {
        for session in sessions.withLock({ $0 }) {
          tracker.deviceWrote(session.container, .wholeSpace)
        }
      }
      let devices = sessions.withLock { $0.map { "\($0.name) \($0.way.sentence)" } }
      say(
        .notice,
        "the VMM logs\(isLate ? ", and may have for a while: all that is mapped is marked" : "");"
          + " devices: \(devices.isEmpty ? "none" : devices.joined(separator: ", "))")
    }
  }

  func logReplaced() {
    course.withLock { state in
      guard isTracking.withLock({ $0 }) else { return }
      if let error = collect(isFinal: isQuiet.withLock { $0 }, &state) { say(.warning, "\(error)") }
    }
  }

  func trackingEnds() {
    course.withLock { state in
      guard isTracking.withLock({ $0 }) else { return }
      isTracking.withLock { $0 = false }
      // Nobody reads any more what is marked from here on.
      if let consumer = state.consumer { log.removeConsumer(consumer) }
      state.consumer = nil
      let report = tracker.stopTracking()
      for note in report.notes { say(.warning, note) }
      say(
        .notice,
        "the VMM logs no more, after \(state.syncCount) syncs and \(state.markedPageCount) marked"
          + " pages")
    }
  }

  func stop() throws(VhostUserError) {
    if omissions.contains(.finalSync) { return say(.notice, "the VM stops, and nothing is done") }
    try course.withLock { (state: inout sending State) throws(VhostUserError) in
      let sessions = sessions.withLock { $0 }
      do throws(VhostUserError) {
        for session in sessions { try session.quiet() }
        if omissions.contains(.lateLookup) { lookUpLate() }
        if isTracking.withLock({ $0 }) {
          if let error = collect(isFinal: true, &state) { throw error }
          try markStrangers()
        }
      } catch {
        for session in sessions { session.resume() }
        isQuiet.withLock { $0 = false }
        say(.error, "the VM may not stop: \(error)")
        throw .stopRefused("\(error)")
      }
      isQuiet.withLock { $0 = true }
      if isTracking.withLock({ $0 }) {
        say(.notice, "the VM stops: devices are quiet, their dirt is in the VMM's log")
      }
    }
  }

  private func markStrangers() throws(VhostUserError) {
    let names = strangers.withLock { $0 }
    guard !names.isEmpty else { return }
    let error = markAllRAM(
      because: "no VMM has connected to \(names.sorted().joined(separator: ", ")) since smudged was"
        + " started, and the process before may have served it")
    if let error { throw error }
  }

  func runsAgain() {
    course.withLock { _ in
      guard isQuiet.withLock({ $0 }) else { return }
      for session in sessions.withLock({ $0 }) { session.resume() }
      isQuiet.withLock { $0 = false }
    }
  }

  func ramChanged() {
    let ram = companion.ram
    let gone = files.prune { identity in ram.regions.contains { $0.file == identity } }
    for file in gone { forget(file) }
  }

  private func forget(_ file: GuestFiles.File) {
    for session in sessions.withLock({ $0 }) { session.forget(file) }
    for region in log.regions where file.room.contains(region.gpa) {
      do throws(TrackerError) { try tracker.regionRemoved(region) } catch {
        say(.warning, "\(error)")
      }
    }
  }

  func disconnected(_ reason: VhostUserError) {
    say(.info, "the companion's VMM has gone: \(reason)")
    // A VMM that is gone does not resume.
    ramChanged()
  }
}
