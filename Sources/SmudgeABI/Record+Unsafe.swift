import CSmudge
import DirtyTracker
import Glibc
import EventTrace

/// The record, written out. Unsafe because write(2) takes an address; sound because it is that of
/// an array for as long as the call lasts.
@c @implementation
public func smudge_trace_write(_ tracker: OpaquePointer?, _ fd: Int32) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_trace_write", waits: false) { _, tracker throws(Failure) in
    guard let record = tracker.eventRecord else {
      throw Failure(SMUDGE_ENOTSUP, "the tracker was made without a record; nothing was written")
    }
    let bytes = record.encoded()
    var written = 0
    while written < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { all in
        unsafe write(fd, all.baseAddress! + written, all.count - written)
      }
      if count < 0 {
        let number = errno
        if number == EINTR { continue }
        throw Failure(
          -Int(number), "the trace was written up to byte \(written) of \(bytes.count)")
      }
      written += count
    }
    return 0
  }
}
