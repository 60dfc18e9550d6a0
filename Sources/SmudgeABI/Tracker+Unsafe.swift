import Addressing
public import CSmudge
import DirtyTracker
import EventTrace
import Glibc
import GuestDirtyLog
import PageBitmap

/// Trackers, made and let go. Unsafe because of the caller's structs and results; sound because
/// `Parameters` checks them.
@c @implementation
public func smudge_tracker_create(
  _ params: UnsafePointer<smudge_tracker_params>?, _ out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  do throws(Failure) {
    let out = unsafe try Parameters.required(out, "out")
    var wanted = smudge_tracker_params()
    if let params = unsafe params {
      wanted = unsafe try Parameters.load(params, wanted, "params")
    }
    let tracker = try Trackers.make(wanted)
    unsafe out.pointee = TrackerHandle(tracker).opaque
    return 0
  } catch {
    return Call.fail("smudge_tracker_create", error)
  }
}

@c @implementation
public func smudge_tracker_destroy(_ tracker: OpaquePointer?) -> Int32 {
  let function: StaticString = "smudge_tracker_destroy"
  guard let tracker = unsafe tracker else { return Call.fail(function, Call.nullHandle) }
  let handle = unsafe TrackerHandle.of(tracker)
  switch handle.gate.close() {
  case .done:
    handle.release()
    return 0
  case .busy:
    return Call.fail(
      function, Failure(SMUDGE_EBUSY, "calls of the tracker are under way; nothing changed"))
  case .again: return Call.gone(function)
  }
}

@c @implementation
public func smudge_blockers(
  _ tracker: OpaquePointer?, _ text: UnsafeMutablePointer<CChar>?, _ textSize: Int
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_blockers", waits: false) { _, tracker throws(Failure) in
    let blockers = tracker.migrationBlockers
    unsafe Parameters.put(lines: blockers, into: text, UInt64(UInt(bitPattern: textSize)))
    return Int32(clamping: blockers.count)
  }
}

enum Trackers {
  static func make(_ params: smudge_tracker_params) throws(Failure) -> DirtyTracker {
    var policy = TrackerPolicy()
    switch Int(params.pinned_pages) {
    case SMUDGE_PINNED_AT_THE_END: policy.pinnedPages = .stopAndCopy
    case SMUDGE_PINNED_EVERY_ROUND: policy.pinnedPages = .everyRound
    default: throw .misuse("pinned_pages is \(params.pinned_pages)")
    }
    switch Int(params.two_step_unmap) {
    case SMUDGE_UNMAP_MARKS: policy.twoStepUnmap = .markMapping
    case SMUDGE_UNMAP_TRUSTS_GUEST: policy.twoStepUnmap = .trustGuest
    default: throw .misuse("two_step_unmap is \(params.two_step_unmap)")
    }
    if params.page_size != 0 {
      guard let pageSize = PageSize(bytes: params.page_size) else {
        throw .misuse("page_size \(params.page_size) is no power of two from 4096 on")
      }
      policy.pageSize = pageSize
    }
    return DirtyTracker(
      log: GuestDirtyLog(pageSize: policy.pageSize), policy: policy,
      record: try record(params.record_byte_count), clock: monotonicNanoseconds,
      rest: { _ = sched_yield() })
  }

  /// Five eighths for events of 40 bytes, the rest for what does not fit into them.
  private static func record(_ byteCount: UInt64) throws(Failure) -> EventRecord? {
    guard byteCount != 0 else { return nil }
    guard byteCount >= 4096, byteCount <= 64 << 30 else {
      throw .misuse("record_byte_count \(byteCount) is not 4096 to 64 GiB")
    }
    // The record has it at once, and a Swift program ends where it gets none: asked for before.
    let pages = HeapBitmapAllocator()
    guard let memory = unsafe pages.allocate(byteCount: Int(byteCount)) else {
      throw Failure(
        SMUDGE_ENOMEM, "no memory for a record of \(byteCount) bytes; nothing changed")
    }
    unsafe pages.deallocate(memory, byteCount: Int(byteCount))
    let forEvents = byteCount / 8 * 5
    return EventRecord(
      eventCountMax: Int(min(forEvents / 40, 1 << 32)),
      byteCountMax: Int(min(byteCount - forEvents, 1 << 32 - 1)))
  }

  @Sendable static func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    let result = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    precondition(result == 0, "there is a monotonic clock")
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }
}
