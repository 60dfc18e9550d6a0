import Foundation
import MigrationTransport

/// `smudge receive` as a child, on a socket in a fresh folder.
final class SecondProcess {
  let address: MigrationAddress
  private let process = Process()
  private let folder: URL

  init(_ machine: MachineArguments) throws {
    let manager = FileManager.default
    folder = manager.temporaryDirectory.appendingPathComponent("smudge-\(UUID().uuidString)")
    try manager.createDirectory(
      at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    address = .unix(path: folder.appendingPathComponent("s").path)
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = ["receive", "--quiet", "--listen", "\(address)"] + machine.commandLine
    // Its errors are ours to show; what it says on success the source says too.
    process.standardOutput = FileHandle.nullDevice
    try process.run()
  }

  deinit {
    if process.isRunning { process.terminate() }
    try? FileManager.default.removeItem(at: folder)
  }

  /// Connects as soon as the child listens.
  func connect(timeoutMilliseconds: Int) throws -> FileDescriptorChannel {
    var lastError: (any Error)?
    for _ in 0..<3000 {
      guard process.isRunning else { break }
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
