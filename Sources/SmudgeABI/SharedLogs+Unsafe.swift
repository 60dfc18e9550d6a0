import Addressing
import CSmudge
import CSmudgeLinux
import DirtyTracker
import Glibc
import GuestDirtyLog
import Locking

/// The log in memory that another process reads. Unsafe because the memory is reached by address
/// and changed by others at the same time; sound because it is mapped for as long as its object
/// lives, cannot shrink, and is changed by atomic OR only.
@c @implementation
public func smudge_shared_log_add(
  _ tracker: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ flags: UInt32,
  _ out: UnsafeMutablePointer<OpaquePointer?>?, _ fd: UnsafeMutablePointer<Int32>?,
  _ byteCount: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_shared_log_add", waits: false) {
    owner, tracker throws(Failure) in
    let out = unsafe try Parameters.required(out, "out")
    let fd = unsafe try Parameters.required(fd, "fd")
    let byteCount = unsafe try Parameters.required(byteCount, "byte_count")
    let name = unsafe try Parameters.string(name, "name")
    guard tracker.log.pageSize == .fourKiB else {
      throw Failure(
        SMUDGE_ENOTSUP,
        "pages have \(tracker.log.pageSize), and vhost's log has a bit for 4 KiB;"
          + " nothing changed")
    }
    let end = (tracker.log.regions.last?.gpa.last.rawValue ?? 0) &>> 12
    let memory = try SharedBits(name: name, pageCount: end + 1)
    let descriptor = fcntl(memory.descriptor, F_DUPFD_CLOEXEC, 0)
    guard descriptor >= 0 else {
      throw Failure(
        -Int(errno), "there is no descriptor left for \(name); nothing changed")
    }
    let consumer: ConsumerID
    do throws(Failure) {
      consumer = try Readers.consumer(name, flags, tracker)
    } catch {
      close(descriptor)
      throw error
    }
    let handle = SharedLogHandle(owner, consumer, memory)
    owner.sharedLogs.withLock { $0.append(handle) }
    unsafe fd.pointee = descriptor
    unsafe byteCount.pointee = memory.byteCount
    unsafe out.pointee = handle.opaque
    return 0
  }
}

@c @implementation
public func smudge_shared_log_publish(
  _ log: OpaquePointer?, _ pageCount: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  unsafe Call.sharedLog(log, "smudge_shared_log_publish") { handle, tracker throws(Failure) in
    let count = try handle.publish(tracker)
    unsafe Parameters.set(pageCount, count)
    return 0
  }
}

@c @implementation
public func smudge_shared_log_remove(_ log: OpaquePointer?) -> Int32 {
  unsafe Call.sharedLog(log, "smudge_shared_log_remove") { handle, tracker throws(Failure) in
    handle.markClosed()
    handle.owner.sharedLogs.withLock { $0.removeAll { $0 === handle } }
    tracker.log.removeConsumer(handle.consumer)
    handle.close()
    return 0
  }
}

extension SharedLogHandle {
  /// - Returns: pages moved.
  func publish(_ tracker: DirtyTracker) throws(Failure) -> UInt64 {
    guard let memory = memory.withLock({ $0 }) else { return 0 }
    var count: UInt64 = 0
    while true {
      let found = tracker.log.harvest(
        for: consumer, pageCountMax: .max, runCountMax: Readers.runCountMax)
      for run in found.runs where !memory.set(run) {
        tracker.log.putBack(found)
        throw Failure(
          SMUDGE_E2BIG,
          "GPA \(run) lies past the end of a shared log; what was to be moved stays dirty")
      }
      tracker.log.delivered(found)
      count &+= found.pageCount
      if found.isLast { return count }
    }
  }
}

/// A bit for each page in a memfd, in the layout of vhost's dirty log (VHOST_SET_LOG_BASE).
@safe final class SharedBits: @unchecked Sendable {
  let byteCount: UInt64
  let descriptor: Int32
  private let pageCount: UInt64
  private let words: UnsafeMutablePointer<UInt64>

  init(name: String, pageCount: UInt64) throws(Failure) {
    self.pageCount = pageCount
    // Whole pages.
    byteCount = (pageCount / 8 + 4096) & ~4095
    descriptor = unsafe smudge_memory_create(name, byteCount)
    guard descriptor >= 0 else {
      throw Failure(
        Int(descriptor), "no memory for \(byteCount) bytes of a shared log; nothing changed")
    }
    var errno: Int32 = 0
    guard let address = unsafe smudge_memory_map(descriptor, byteCount, &errno) else {
      close(descriptor)
      throw Failure(
        -Int(errno), "\(byteCount) bytes of a shared log were not mapped; nothing changed")
    }
    unsafe words = address.bindMemory(to: UInt64.self, capacity: Int(byteCount / 8))
  }

  deinit {
    unsafe smudge_memory_unmap(words, byteCount)
    close(descriptor)
  }

  /// - Returns: false when it does not lie inside.
  func set(_ run: GPARange) -> Bool {
    let (first, last) = (run.first.rawValue &>> 12, run.last.rawValue &>> 12)
    guard last < pageCount else { return false }
    unsafe smudge_bits_or_atomically(words, first, last)
    return true
  }
}
