import DirtyTracker
import EventTrace
import Foundation

/// The event record of a sample run, and the file it goes to at the end, however that is.
struct Recording {
  struct Written {
    let path: String
    let events: Int
    let dropped: UInt64
    let stateDigest: UInt64
  }

  let path: String
  /// Room for some minutes of a sample; memory is taken as it is used.
  let record = EventRecord(eventCountMax: 1 << 22, byteCountMax: 1 << 29)

  /// Fails before anything has been migrated when the file can not be written.
  init(_ path: String) throws {
    self.path = path
    guard FileManager.default.createFile(atPath: path, contents: nil) else {
      throw ToolError("the record \(path) can not be written")
    }
  }

  /// - Precondition: nobody tells the tracker anything any more.
  func write(_ tracker: DirtyTracker) throws -> Written {
    do {
      try Data(record.encoded()).write(to: URL(fileURLWithPath: path))
    } catch {
      throw ToolError("the record \(path) could not be written: \(error.localizedDescription)")
    }
    return Written(
      path: path, events: record.count, dropped: record.droppedCount,
      stateDigest: tracker.stateDigest())
  }
}
