import DeviceMigration
import Locking

/// Two ends in memory, for a migration of which one thread drives both sides: a side that reads
/// where nothing is lets the other take steps first. Unsafe only in moving bytes between spans and
/// arrays of their length, and in saying that it is used from one thread.
final class SteppedLink: @unchecked Sendable {
  /// Takes a step of the destination. False: it has come to its end.
  var step: (() -> Bool)?
  /// The write of the source, counted from 1, that fails, and all after it.
  var failingWrite = Int.max
  private(set) var writeCount = 0
  private var isShut = false
  private var toDestination = Bytes()
  private var toSource = Bytes()

  private struct Bytes {
    var bytes: [UInt8] = []
    var position = 0
    var isEmpty: Bool { position == bytes.count }
  }

  lazy var source = End(self, isSource: true)
  lazy var destination = End(self, isSource: false)

  final class End: ByteChannel, @unchecked Sendable {
    private unowned let link: SteppedLink
    private let isSource: Bool
    let isBidirectional = true
    var name: String { isSource ? "link, source" : "link, destination" }

    init(_ link: SteppedLink, isSource: Bool) {
      self.link = link
      self.isSource = isSource
    }

    func write(_ bytes: RawSpan) throws(ChannelError) {
      if isSource { link.writeCount += 1 }
      guard !link.isShut else { throw ChannelError(.closed, channel: name, operation: "write") }
      guard !isSource || link.writeCount < link.failingWrite else {
        throw ChannelError(.failed, channel: name, operation: "write", detail: "planned")
      }
      unsafe bytes.withUnsafeBytes { raw in
        if isSource {
          unsafe link.toDestination.bytes.append(contentsOf: raw)
        } else {
          unsafe link.toSource.bytes.append(contentsOf: raw)
        }
      }
    }

    func read(into buffer: inout MutableRawSpan) throws(ChannelError) -> Int {
      if isSource {
        while link.toSource.isEmpty, link.step?() == true {}
        return take(&link.toSource, &buffer)
      }
      return take(&link.toDestination, &buffer)
    }

    private func take(_ from: inout Bytes, _ buffer: inout MutableRawSpan) -> Int {
      let count = min(buffer.byteCount, from.bytes.count - from.position)
      let part = from.bytes[from.position..<(from.position + count)]
      unsafe buffer.withUnsafeMutableBytes { raw in unsafe raw.copyBytes(from: part) }
      from.position += count
      if from.isEmpty { from = Bytes() }
      return count
    }

    func shutDown() { link.isShut = true }
  }
}
