import Foundation
import Locking

/// What the tool says on standard output, and whether it got there: a verdict that nobody received
/// must not end in status 0.
///
/// Unsafe in handing the kernel the address of bytes. Sound because they are an array that lives
/// through the call, given with its own count.
enum Output {
  private static let failure = Mutex<Int32?>(nil)

  /// The errno of the first write that failed.
  static var errorNumber: Int32? { failure.withLock { $0 } }

  static func line(_ text: String = "") { write(text + "\n") }

  /// After a write that failed nothing more is written: a text with a hole is worse than one that
  /// ends.
  static func write(_ text: String) {
    let bytes = Array(text.utf8)
    failure.withLock { failure in
      guard failure == nil else { return }
      var done = 0
      while done < bytes.count {
        let count = unsafe bytes.withUnsafeBytes { buffer in
          unsafe Foundation.write(STDOUT_FILENO, buffer.baseAddress! + done, bytes.count - done)
        }
        if count > 0 {
          done += count
        } else if count == 0 || errno != EINTR {
          failure = count == 0 ? EIO : errno
          return
        }
      }
    }
  }

  /// Standard streams that were closed before the tool began: their numbers would go to the next
  /// file that is opened, and the verdict into the middle of it.
  static func reserveStandardStreams() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      // The other direction, so that what is written still fails.
      _ = unsafe open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
  }

  /// - Returns: `status`, or the one that says that the output is not whole.
  static func finish(_ status: Int32) -> Int32 {
    guard let number = errorNumber else { return status }
    Terminal.error(
      "smudge: standard output did not take all that was to be said: \(errorText(number))")
    return status == 0 ? ToolStatus.notVerified.rawValue : status
  }

  static func errorText(_ number: Int32) -> String {
    unsafe strerror(number).map { unsafe String(cString: $0) } ?? "errno \(number)"
  }
}
