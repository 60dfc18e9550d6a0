import Addressing
public import CSmudge
import DirtyTracker
import GuestDirtyLog
import Locking

/// Readers of the log and their harvests. Unsafe because of the caller's results; sound because
/// each is written within the room that the caller states.
@c @implementation
public func smudge_reader_add(
  _ tracker: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ flags: UInt32,
  _ out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_reader_add", waits: false) {
    owner, tracker throws(Failure) in
    let out = unsafe try Parameters.required(out, "out")
    let consumer = try Readers.consumer(
      unsafe try Parameters.string(name, "name"), flags, tracker)
    unsafe out.pointee = ReaderHandle(owner, consumer).opaque
    return 0
  }
}

@c @implementation
public func smudge_reader_remove(_ reader: OpaquePointer?) -> Int32 {
  unsafe Call.reader(reader, "smudge_reader_remove") { handle, tracker throws(Failure) in
    handle.markClosed()
    tracker.log.removeConsumer(handle.consumer)
    handle.close()
    return 0
  }
}

@c @implementation
public func smudge_reader_dirty_page_count(
  _ reader: OpaquePointer?, _ pageCount: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  unsafe Call.reader(reader, "smudge_reader_dirty_page_count") { handle, tracker throws(Failure) in
    unsafe try Parameters.required(pageCount, "page_count").pointee =
      tracker.log.dirtyPageCount(for: handle.consumer)
    return 0
  }
}

@c @implementation
public func smudge_harvest_runs(
  _ reader: OpaquePointer?, _ pageCountMax: UInt64, _ run: smudge_run?,
  _ opaque: UnsafeMutableRawPointer?, _ harvest: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  unsafe Call.reader(reader, "smudge_harvest_runs") { handle, tracker throws(Failure) in
    guard let run = unsafe run else { throw .misuse("run is null") }
    let found = tracker.log.harvest(
      for: handle.consumer, pageCountMax: pageCountMax, runCountMax: Readers.runCountMax)
    for one in found.runs {
      let result = unsafe run(one.first.rawValue, one.lastOffset &+ 1, opaque)
      guard result != 0 else { continue }
      tracker.log.putBack(found)
      throw Failure(
        result < 0 ? Int(result) : SMUDGE_EIO,
        "the callback returned \(result); the harvest was put back")
    }
    return unsafe handle.keep(found, tracker, harvest)
  }
}

@c @implementation
public func smudge_harvest_ranges(
  _ reader: OpaquePointer?, _ pageCountMax: UInt64, _ ranges: UnsafeMutablePointer<smudge_range>?,
  _ rangeCountMax: UInt32, _ rangeCount: UnsafeMutablePointer<UInt32>?,
  _ harvest: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  unsafe Call.reader(reader, "smudge_harvest_ranges") { handle, tracker throws(Failure) in
    let ranges = unsafe try Parameters.required(ranges, "ranges")
    let rangeCount = unsafe try Parameters.required(rangeCount, "range_count")
    guard rangeCountMax > 0 else { throw .misuse("range_count_max is 0") }
    let found = tracker.log.harvest(
      for: handle.consumer, pageCountMax: pageCountMax, runCountMax: Int(rangeCountMax))
    for (index, run) in found.runs.enumerated() {
      unsafe ranges[index] = smudge_range(
        gpa: run.first.rawValue, byte_count: run.lastOffset &+ 1)
    }
    unsafe rangeCount.pointee = UInt32(found.runs.count)
    return unsafe handle.keep(found, tracker, harvest)
  }
}

@c @implementation
public func smudge_harvest_bitmap(
  _ reader: OpaquePointer?, _ gpa: UInt64, _ words: UnsafeMutablePointer<UInt64>?,
  _ pageCount: UInt64, _ dirtyPageCount: UnsafeMutablePointer<UInt64>?,
  _ harvest: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  unsafe Call.reader(reader, "smudge_harvest_bitmap") { handle, tracker throws(Failure) in
    let words = unsafe try Parameters.required(words, "words")
    let pageSize = tracker.log.pageSize
    guard let region = tracker.log.region(holding: GPA(gpa)), region.gpa.first == GPA(gpa) else {
      throw Failure(SMUDGE_ENOENT, "no RAM region begins at GPA \(GPA(gpa)); nothing changed")
    }
    guard pageCount == region.gpa.pageCount(pageSize) else {
      throw .misuse(
        "page_count is \(pageCount), and \(region) has \(region.gpa.pageCount(pageSize)) pages")
    }
    let found = tracker.log.harvest(for: handle.consumer, inRegionAt: GPA(gpa))
    for run in found.runs {
      let first = (run.first.rawValue &- gpa) &>> pageSize.shift
      let last = (run.last.rawValue &- gpa) &>> pageSize.shift
      unsafe smudge_bits_set(words, first, last)
    }
    unsafe Parameters.set(dirtyPageCount, found.pageCount)
    return unsafe handle.keep(found, tracker, harvest)
  }
}

@c @implementation
public func smudge_delivered(_ reader: OpaquePointer?, _ harvest: UInt64) -> Int32 {
  unsafe Call.reader(reader, "smudge_delivered") { handle, tracker throws(Failure) in
    // Past its limit the log puts back the oldest, whoever keeps its number.
    guard let found = handle.inFlight.withLock({ $0.removeValue(forKey: harvest) }),
      tracker.log.isInFlight(found)
    else {
      throw Failure(SMUDGE_ENOENT, "harvest \(harvest) is not in flight; nothing changed")
    }
    tracker.log.delivered(found)
    return 0
  }
}

@c @implementation
public func smudge_put_back(_ reader: OpaquePointer?, _ harvest: UInt64) -> Int32 {
  unsafe Call.reader(reader, "smudge_put_back") { handle, tracker throws(Failure) in
    guard let found = handle.inFlight.withLock({ $0.removeValue(forKey: harvest) }),
      tracker.log.isInFlight(found)
    else {
      let reason = "harvest \(harvest) was put back and is not in flight"
      tracker.log.markAllDirtyForGood(because: reason)
      throw Failure(SMUDGE_ENOENT, "\(reason); every page is dirty")
    }
    tracker.log.putBack(found)
    return 0
  }
}

enum Readers {
  /// Runs of one harvest: 16 MiB of them.
  static let runCountMax = 1 << 20

  static func consumer(
    _ name: String, _ flags: UInt32, _ tracker: DirtyTracker
  ) throws(Failure) -> ConsumerID {
    try Parameters.flags(flags, known: SMUDGE_READER_STARTS_DIRTY, "flags")
    do throws(GuestDirtyLogError) {
      return try tracker.log.addConsumer(
        name, startsDirty: flags & UInt32(SMUDGE_READER_STARTS_DIRTY) != 0)
    } catch {
      throw Failure(error)
    }
  }
}

extension ReaderHandle {
  /// The caller answers for it by its number, or has taken it.
  /// - Returns: whether pages are left.
  fileprivate func keep(
    _ found: Harvest, _ tracker: DirtyTracker, _ number: UnsafeMutablePointer<UInt64>?
  ) -> Int32 {
    if let number = unsafe number {
      unsafe number.pointee = found.pageCount == 0 ? 0 : found.number
      if found.pageCount > 0 {
        inFlight.withLock { flights in
          flights[found.number] = found
          // The log has put the oldest back.
          if flights.count > GuestDirtyLog.flightCountMax, let oldest = flights.keys.min() {
            flights[oldest] = nil
          }
        }
      }
    } else {
      tracker.log.delivered(found)
    }
    return found.isLast ? 0 : 1
  }
}
