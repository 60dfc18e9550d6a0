import DirtyTracker
import EventTrace
import Foundation

/// The event record of a sample run, and the file it goes to at the end, however that is.
///
/// Unsafe in handing the kernel the address of a local or of bytes. Sound because they live through
/// the call, and bytes are given with their own count.
final class Recording {
  struct Written {
    let path: String
    let events: Int
    let dropped: UInt64
    let stateDigest: UInt64
  }

  let path: String
  let record: EventRecord
  private let descriptor: Int32

  /// Fails before anything has been migrated when the file cannot be written. What is no regular
  /// file is refused, and stays what it is: nothing is ever renamed over the path. A symbolic link
  /// is written through.
  ///
  /// - Parameter record: of what has happened already; nil: a new one, with room for some minutes
  ///   of a sample, in memory that is taken as it is used.
  init(_ path: String, _ record: EventRecord? = nil) throws(ToolError) {
    self.path = path
    self.record = record ?? EventRecord(eventCountMax: 1 << 22, byteCountMax: 1 << 29)
    // Without O_NONBLOCK a FIFO nobody reads would stop the tool here.
    let opened = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o644)
    let openError = errno
    if let kind = Self.irregularKind(of: opened, path) {
      if opened >= 0 { close(opened) }
      throw ToolError(
        "the record \(path) cannot be written: it is \(kind), and a record goes to a regular file")
    }
    guard opened >= 0 else {
      throw ToolError("the record \(path) cannot be written: \(Output.errorText(openError))")
    }
    guard ftruncate(opened, 0) == 0 else {
      defer { close(opened) }
      throw ToolError("the record \(path) cannot be emptied: \(Output.errorText(errno))")
    }
    descriptor = opened
  }

  deinit { close(descriptor) }

  /// Nil for a regular file, and for what is not there.
  private static func irregularKind(of descriptor: Int32, _ path: String) -> String? {
    var status = stat()
    let asked = unsafe descriptor >= 0 ? fstat(descriptor, &status) : stat(path, &status)
    guard asked == 0 else { return nil }
    return switch status.st_mode & S_IFMT {
    case S_IFREG: nil
    case S_IFIFO: "a FIFO"
    case S_IFCHR, S_IFBLK: "a device"
    case S_IFDIR: "a directory"
    case S_IFSOCK: "a socket"
    default: "no regular file"
    }
  }

  /// - Precondition: nobody tells the tracker anything any more.
  func write(_ tracker: DirtyTracker) throws(ToolError) -> Written {
    let bytes = record.encoded()
    var done = 0
    while done < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Foundation.write(descriptor, buffer.baseAddress! + done, bytes.count - done)
      }
      if count > 0 {
        done += count
      } else if count == 0 || errno != EINTR {
        throw ToolError(
          "the record \(path) could not be written: \(Output.errorText(count == 0 ? EIO : errno)); "
            + "it ends after \(done) of \(bytes.count) bytes")
      }
    }
    return Written(
      path: path, events: record.count, dropped: record.droppedCount,
      stateDigest: tracker.stateDigest())
  }
}
