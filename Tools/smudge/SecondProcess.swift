import Foundation
import MigrationTransport

/// `smudge receive` as a child, on a socket in a fresh folder.
final class SecondProcess {
  let address: MigrationAddress
  private let process = Process()
  private let folder: TemporaryFolder

  init(_ machine: MachineArguments) throws(ToolError) {
    folder = try TemporaryFolder()
    let path = folder.path + "/s"
    do {
      address = try MigrationAddress("unix:\(path)")
    } catch {
      throw ToolError("\(error); TMPDIR says where sockets go")
    }
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments =
      ["receive", "--quiet", "--child-of", "\(getpid())", "--listen", "\(address)"]
      + machine.commandLine
    // Its errors are ours to show; what it says on success the source says too.
    process.standardOutput = FileHandle.nullDevice
    do {
      try process.run()
    } catch {
      let reason = (error as NSError).userInfo[NSUnderlyingErrorKey] ?? error
      throw ToolError("the second process could not be started: \(Self.text(reason))")
    }
  }

  deinit { if process.isRunning { process.terminate() } }

  private static func text(_ error: Any) -> String {
    guard let error = error as? NSError, error.domain == NSPOSIXErrorDomain else {
      return (error as? any Error).map(\.localizedDescription) ?? "\(error)"
    }
    return Output.errorText(Int32(error.code))
  }

  /// Connects as soon as the child listens.
  func connect(
    timeoutMilliseconds: Int, unless isCancelled: () -> Bool
  ) throws -> FileDescriptorChannel {
    var lastError: (any Error)?
    for _ in 0..<3000 {
      guard process.isRunning else { break }
      if isCancelled() { throw ToolError("interrupted before the second process listened") }
      do {
        return try MigrationTransport.connect(to: address, timeoutMilliseconds: timeoutMilliseconds)
      } catch {
        lastError = error
        usleep(10_000)
      }
    }
    throw ToolError(
      "the second process does not listen: \(lastError.map { "\($0)" } ?? "it ended")")
  }

  /// - Returns: its exit status.
  func wait() -> Int32 {
    process.waitUntilExit()
    return process.terminationStatus
  }
}
