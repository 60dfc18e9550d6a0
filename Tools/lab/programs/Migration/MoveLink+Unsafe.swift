import DeviceMigration

/// Both ends of a stream in memory. A source that waits for an answer drives the destination, so
/// that the order of all calls is the same in each run.
///
/// Unsafe because spans become arrays and arrays spans, and because no lock is held. Sound because
/// each is bounded by the other's count, and one thread does everything.
final class MoveLink: @unchecked Sendable {
  private var toDestination: [UInt8] = []
  private var position = 0
  private var toSource: [UInt8] = []
  private var isShut = false
  /// One step of the destination; false when it is done.
  var step: (() -> Bool)?

  var source: any ByteChannel { End(link: self, isSource: true) }
  var destination: any ByteChannel { End(link: self, isSource: false) }

  private final class End: ByteChannel, @unchecked Sendable {
    let link: MoveLink
    let isSource: Bool
    var name: String { isSource ? "memory, source" : "memory, destination" }
    var isBidirectional: Bool { true }

    init(link: MoveLink, isSource: Bool) {
      self.link = link
      self.isSource = isSource
    }

    func write(_ bytes: RawSpan) throws(ChannelError) {
      if link.isShut { throw ChannelError(.closed, channel: name, operation: "write") }
      unsafe bytes.withUnsafeBytes { bytes in
        if isSource {
          unsafe link.toDestination.append(contentsOf: bytes)
        } else {
          unsafe link.toSource.append(contentsOf: bytes)
        }
      }
    }

    func read(into buffer: inout MutableRawSpan) throws(ChannelError) -> Int {
      if isSource {
        while link.toSource.isEmpty, let step = link.step, step() {}
        let count = min(buffer.byteCount, link.toSource.count)
        copy(link.toSource[0..<count], into: &buffer)
        link.toSource.removeFirst(count)
        return count
      }
      let count = min(buffer.byteCount, link.toDestination.count - link.position)
      copy(link.toDestination[link.position..<(link.position + count)], into: &buffer)
      link.position += count
      return count
    }

    private func copy(_ bytes: ArraySlice<UInt8>, into buffer: inout MutableRawSpan) {
      unsafe buffer.withUnsafeMutableBytes { unsafe $0.copyBytes(from: bytes) }
    }

    func shutDown() { link.isShut = true }
  }
}
