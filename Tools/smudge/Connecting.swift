import DeviceMigration
import Dispatch
import Foundation
import Locking
import MigrationTransport

/// A connect that neither a name server nor a silent host can hold up: it is given up for a signal
/// and when its time is over.
enum Connecting {
  private final class Answer: Sendable {
    let value = Mutex<Result<FileDescriptorChannel, ChannelError>?>(nil)
    let isThere = DispatchSemaphore(value: 0)
  }

  static func connect(
    to address: MigrationAddress, timeoutMilliseconds: Int, unless isCancelled: () -> Bool
  ) throws -> FileDescriptorChannel {
    let answer = Answer()
    // What comes after it was given up closes with the answer.
    DispatchQueue.global().async {
      let result = Result { () throws(ChannelError) in
        try MigrationTransport.connect(to: address, timeoutMilliseconds: timeoutMilliseconds)
      }
      answer.value.withLock { $0 = result }
      answer.isThere.signal()
    }
    let end = DispatchTime.now() + .milliseconds(timeoutMilliseconds + 500)
    while answer.isThere.wait(timeout: .now() + .milliseconds(50)) == .timedOut {
      if isCancelled() { throw ToolError("connect to \(address) was interrupted") }
      if DispatchTime.now() > end {
        throw ChannelError(.timedOut, channel: "\(address)", operation: "connect")
      }
    }
    guard let result = answer.value.withLock({ $0 }) else {
      preconditionFailure("an answer is there before it is said to be")
    }
    return try result.get()
  }
}
