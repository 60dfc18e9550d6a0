import DeviceMigration
import MigrationTransport

/// A destination that answers as one should, up to a point, and then goes away. It has no guest.
enum FakeDestination {
  /// - Parameters:
  ///   - saysRunning: whether it answers `start`.
  ///   - last: after this section it reads and says no more, and keeps the channel open.
  static func serve(
    _ channel: any ByteChannel, saysRunning: Bool = false, until last: StreamSectionKind? = nil
  ) throws {
    let reader = StreamReader(channel)
    let writer = StreamWriter(channel)
    try reader.begin()
    var payload: [UInt8] = []
    while true {
      let section = try reader.nextSection()
      try reader.readPayload(of: section, into: &payload)
      if section.kind == last { return }
      switch section.kind {
      case .hello:
        try writer.begin()
        try writer.write(.accepted)
      case .complete: try writer.write(.loaded)
      case .start:
        if saysRunning { try writer.write(.running) }
        channel.shutDown()
        return
      default: break
      }
    }
  }
}
