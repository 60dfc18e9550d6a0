public import DeviceMigration

/// Both ends of a channel in memory. A source that waits for an answer drives the destination, so
/// that the order of all calls is the same in each run.
///
/// Unsafe because spans become arrays and arrays spans, and because no lock is held. Sound because
/// each is bounded by the other's count, and one thread does everything.
public final class MemoryLink: @unchecked Sendable {
  public var toDestination: [UInt8] = []
  private var position = 0
  private var toSource: [UInt8] = []
  private var isShut = false
  /// One step of the destination; false when it is done.
  public var step: (() -> Bool)?
  private let isBidirectional: Bool
  private let fails: (String) -> Bool

  /// - Parameter fails: asked before each call, by the name of the end and of the call.
  public init(isBidirectional: Bool = true, fails: @escaping (String) -> Bool = { _ in false }) {
    self.isBidirectional = isBidirectional
    self.fails = fails
  }

  public var source: any ByteChannel { End(link: self, isSource: true) }
  public var destination: any ByteChannel { End(link: self, isSource: false) }

  private final class End: ByteChannel, @unchecked Sendable {
    let link: MemoryLink
    let isSource: Bool
    var name: String { isSource ? "memory, source" : "memory, destination" }
    var isBidirectional: Bool { link.isBidirectional }

    init(link: MemoryLink, isSource: Bool) {
      self.link = link
      self.isSource = isSource
    }

    func write(_ bytes: RawSpan) throws(ChannelError) {
      if link.isShut { throw ChannelError(.closed, channel: name, operation: "write") }
      if link.fails("\(name) write") {
        throw ChannelError(.failed, channel: name, operation: "write", errorNumber: 32)
      }
      let copy = unsafe bytes.withUnsafeBytes { unsafe Array($0) }
      if isSource { link.toDestination += copy } else { link.toSource += copy }
    }

    func read(into buffer: inout MutableRawSpan) throws(ChannelError) -> Int {
      if link.fails("\(name) read") {
        throw ChannelError(.failed, channel: name, operation: "read", errorNumber: 104)
      }
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
