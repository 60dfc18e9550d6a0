import Addressing
import Locking
import Simulation
import VFIOUser

/// A server in bytes: what a test wants it to answer, also what no server of this project would.
final class ScriptedServer: Sendable {
  enum Answer: Sendable {
    case payload([UInt8])
    case withDescriptors([UInt8], [OwnedDescriptor])
    case errno(Int32)
    /// Any bytes.
    case bytes([UInt8])
    case silence
    case end
  }

  typealias Script = @Sendable (RawPeer.Message, RawPeer) -> Answer

  let theirs: OwnedDescriptor
  private let thread: SimulatedThread
  private let peer: RawPeer
  private let seen: Seen

  init(_ script: @escaping Script) throws {
    let (left, right) = try VFIOUserSocket.pair()
    theirs = left
    let peer = RawPeer(right)
    self.peer = peer
    let seen = Seen()
    self.seen = seen
    thread = try SimulatedThread(name: "script") {
      while let message = peer.receive() {
        seen.add(message.header.command)
        switch script(message, peer) {
        case .payload(let payload): peer.send(RawPeer.answer(message, payload))
        case .withDescriptors(let payload, let descriptors):
          peer.send(RawPeer.answer(message, payload), descriptors)
        case .errno(let errno): peer.send(RawPeer.answer(message, errno: errno))
        case .bytes(let bytes): peer.send(bytes)
        case .silence: break
        case .end:
          peer.shutDown()
          return
        }
      }
    }
  }

  /// Commands that came, in order.
  var commands: [UInt16] { seen.commands }

  private final class Seen: Sendable {
    private let all = Mutex<[UInt16]>([])
    func add(_ command: UInt16) { all.withLock { $0.append(command) } }
    var commands: [UInt16] { all.withLock { $0 } }
  }

  /// Ends it and waits for its thread.
  func close() {
    peer.shutDown()
    thread.join()
  }

  /// Answers VERSION, and everything else as a plain server does whose log knows one page.
  static func plain(
    _ message: RawPeer.Message, capabilities: VersionCapabilities = .init(descriptorCountMax: 8)
  ) -> Answer {
    let payload = message.payload
    switch VFIOUserCommand(rawValue: message.header.command) {
    case .version:
      return .payload(VersionMessage(minor: 0, capabilities: capabilities).encoded())
    case .unmapDMA:
      // With the bitmap of its first page where it is asked for.
      let pages = payload.count >= 40 ? Int(payload[32]) : 0
      guard payload.count >= 40 else { return .payload(payload) }
      return .payload(payload + [1] + [UInt8](repeating: 0, count: pages - 1))
    case .feature:
      // A report has its first page set.
      guard payload[4] == 8, payload[6] == 1 else { return .payload(payload) }
      return .payload(payload + [1] + [UInt8](repeating: 0, count: 7))
    default: return .payload([])
    }
  }
}
