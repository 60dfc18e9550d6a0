import Addressing
public import CSmudge
import DirtyTracker
import GuestDirtyLog
import Locking

/// Start, sync and stop of the log, and what vCPUs wrote. Unsafe because of the caller's report and
/// words; sound because `Parameters` checks the one, and of the other a bit a page is read.
@c @implementation
public func smudge_log_start(
  _ tracker: OpaquePointer?, _ report: UnsafeMutablePointer<smudge_report>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_log_start") { _, tracker throws(Failure) in
    unsafe try Parameters.checkIfGiven(report, smudge_report(), "report")
    return unsafe try Reports.put(tracker.startTracking(), tracker, report)
  }
}

@c @implementation
public func smudge_log_sync(
  _ tracker: OpaquePointer?, _ flags: UInt32, _ report: UnsafeMutablePointer<smudge_report>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_log_sync") { owner, tracker throws(Failure) in
    try Parameters.flags(flags, known: SMUDGE_SYNC_FINAL, "flags")
    unsafe try Parameters.checkIfGiven(report, smudge_report(), "report")
    var found = tracker.sync(isFinal: flags & UInt32(SMUDGE_SYNC_FINAL) != 0)
    for shared in owner.sharedLogs.withLock({ $0 }) {
      do throws(Failure) {
        _ = try shared.publish(tracker)
      } catch {
        found.notes.append(error.sentence)
      }
    }
    return unsafe try Reports.put(found, tracker, report)
  }
}

@c @implementation
public func smudge_log_stop(
  _ tracker: OpaquePointer?, _ report: UnsafeMutablePointer<smudge_report>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_log_stop") { _, tracker throws(Failure) in
    unsafe try Parameters.checkIfGiven(report, smudge_report(), "report")
    return unsafe try Reports.put(tracker.stopTracking(), tracker, report)
  }
}

@c @implementation
public func smudge_vcpu_wrote(
  _ tracker: OpaquePointer?, _ gpa: UInt64, _ size: UInt64
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_vcpu_wrote", waits: false) { _, tracker throws(Failure) in
    tracker.vcpuWrote(try Parameters.range(gpa, size, "GPA", pageSize: nil))
    return 0
  }
}

@c @implementation
public func smudge_vcpu_bitmap(
  _ tracker: OpaquePointer?, _ gpa: UInt64, _ words: UnsafePointer<UInt64>?, _ pageCount: UInt64
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_vcpu_bitmap", waits: false) { _, tracker throws(Failure) in
    guard let words = unsafe words else { throw .misuse("words is null") }
    let pageSize = tracker.log.pageSize
    guard pageCount > 0, pageCount <= Limits.bitmapPageCountMax else {
      throw .misuse("page_count \(pageCount) is not 1 to \(Limits.bitmapPageCountMax)")
    }
    let (byteCount, isPast) = pageCount.multipliedReportingOverflow(by: pageSize.bytes)
    guard !isPast else { throw .misuse("page_count \(pageCount) is too large") }
    let _: GPARange = try Parameters.range(gpa, byteCount, "GPA", pageSize: pageSize)
    let count = Int((pageCount &+ 63) / 64)
    let span = unsafe UnsafeBufferPointer(start: words, count: count).span
    tracker.log.merge(words: span, bitCount: pageCount, at: GPA(gpa), by: .vcpu)
    return 0
  }
}

enum Reports {
  static func put(
    _ found: SyncReport, _ tracker: DirtyTracker, _ report: UnsafeMutablePointer<smudge_report>?
  ) throws(Failure) -> Int32 {
    guard let report = unsafe report else { return 0 }
    var filled = unsafe try Parameters.load(report, smudge_report(), "report")
    unsafe filled.note_count = UInt32(clamping: found.notes.count)
    unsafe filled.backend_call_count = UInt64(found.backendCallCount)
    unsafe filled.dirty_page_count = found.dirtyPages
    unsafe filled.newly_dirty_page_count = found.containers.reduce(0) { $0 &+ $1.newlyDirtyPages }
    unsafe filled.held_back_page_count = tracker.heldBackPageCount
    unsafe filled.unknown_page_count = found.containers.reduce(0) { $0 &+ $1.unknownPages }
    unsafe Parameters.put(lines: found.notes, into: filled.notes, filled.notes_size)
    unsafe Parameters.store(filled, to: report)
    return 0
  }
}
