import Foundation
import Locking

/// A folder of this process that goes with it, also when a second signal ends it at once.
///
/// Unsafe in handing the kernel a path. Sound because it is a string, which lives through the call.
final class TemporaryFolder: Sendable {
  let path: String
  private static let alive = Mutex<Set<String>>([])

  init() throws(ToolError) {
    let parent = FileManager.default.temporaryDirectory.path
    path = parent + "/smudge-\(UUID().uuidString)"
    guard unsafe mkdir(path, 0o700) == 0 else {
      throw ToolError(
        "no folder for a socket could be made in \(parent): \(Output.errorText(errno)); TMPDIR "
          + "says where else")
    }
    let path = path
    Self.alive.withLock { _ = $0.insert(path) }
  }

  deinit {
    let path = path
    Self.remove(path)
    Self.alive.withLock { _ = $0.remove(path) }
  }

  /// All that are left. Called as the process ends.
  static func removeAll() {
    for path in alive.withLock({ $0 }) { remove(path) }
  }

  /// What cannot be removed stays: an empty folder is no reason to fail.
  private static func remove(_ path: String) {
    try? FileManager.default.removeItem(atPath: path)
  }
}
