import Addressing
import DirtyTracker
import GuestDirtyLog
import Locking
import VhostUser

extension VMCourse {
  /// Runs of one harvest.
  private static let runCountMax = 4096

  /// A sync of its own while the VMM logs: the VMM reads its log when it likes, and says nothing.
  func tick() {
    if omissions.contains(.lateLookup) { lookUpLate() }
    course.withLock { state in
      guard isTracking.withLock({ $0 }), !isQuiet.withLock({ $0 }) else { return }
      // What could not be marked stays, for the next time.
      if let error = collect(isFinal: false, &state) { say(.warning, "\(error)") }
    }
  }

  /// Asks every device, and marks what is dirty.
  /// - Returns: why some of it is not marked; it stays in the tracker's log.
  func collect(isFinal: Bool, _ state: inout State) -> VhostUserError? {
    let report = tracker.sync(isFinal: isFinal)
    for note in report.notes { say(.warning, note) }
    state.syncCount += 1
    guard let consumer = state.consumer else { return markAllRAM(because: "no memory for a log") }
    while true {
      let harvest = log.harvest(
        for: consumer, pageCountMax: .max, runCountMax: Self.runCountMax)
      for run in harvest.runs {
        do throws(VhostUserError) {
          try mark(run, &state)
        } catch {
          log.putBack(harvest)
          return error
        }
      }
      log.delivered(harvest)
      state.markedPageCount += harvest.pageCount
      if harvest.isLast { return nil }
    }
  }

  /// Marks places wherever the guest sees them.
  private func mark(_ place: GPARange, _ state: inout State) throws(VhostUserError) {
    let found = ranges(of: place)
    for range in found.ranges { try companion.log.mark(range) }
    if found.isWhole { return }
    let what =
      files.file(at: place.first).map { "\($0.identity) from \($0.offset(of: place.first))" }
      ?? "memory"
    if isStrict {
      throw .stopRefused(
        "\(what) was written and lies in no RAM that the VMM has told (--strict)")
    }
    if !state.isUnplacedSaid {
      state.isUnplacedSaid = true
      say(
        .warning,
        "\(what) was written and lies in no RAM that the VMM has told; all of RAM is"
          + " marked, here and wherever that happens again")
    }
    if let error = markAllRAM(because: nil) { throw error }
  }

  func markAllRAM(because reason: String?) -> VhostUserError? {
    if let reason { say(.warning, "all of RAM is marked: \(reason)") }
    var first: VhostUserError?
    for region in companion.ram.regions {
      do throws(VhostUserError) { try companion.log.mark(region.gpa) } catch {
        first = first ?? error
      }
    }
    return first
  }
}
