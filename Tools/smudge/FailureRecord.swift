import DirtyTracker
import EventTrace
import Foundation

/// The event record that is kept of every migration, in a ring of bounded memory, and goes to a
/// file when the migration fails.
struct FailureRecord {
  /// 64 MiB of events, and beside them the snapshot from which the oldest of them go on.
  let record = EventRecord()

  /// A file in the folder that SMUDGE_RECORDS names, or in the temporary one.
  static var path: String {
    let named = ProcessInfo.processInfo.environment["SMUDGE_RECORDS"].map {
      URL(fileURLWithPath: $0, isDirectory: true)
    }
    let folder = named ?? FileManager.default.temporaryDirectory
    let name = "smudge-failed-\(ProcessInfo.processInfo.processIdentifier).trace"
    return folder.appendingPathComponent(name).path
  }

  /// A sentence for the failure's notes. Where nothing was migrated there is nothing to write.
  func write(_ tracker: DirtyTracker, after failure: ToolError) -> String? {
    guard failure.failure.phase != "connect", failure.failure.phase != "hello" else { return nil }
    do throws(ToolError) {
      let written = try Recording(Self.path, record).write(tracker)
      let state = record.isReplayable ? "`smudge replay` takes it" : "it cannot be replayed"
      return "\(written.events) events of the tracker are in \(written.path); \(state)"
    } catch {
      return "\(error)"
    }
  }
}
