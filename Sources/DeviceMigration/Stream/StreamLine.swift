import Locking

/// The end of a channel that sections go into, whole and numbered: one after the other, also where
/// a second thread gives signs of life between those of the first.
///
/// Invariants:
/// 1. Sections leave in the order of their sequence, none inside another.
/// 2. After a write that failed nothing more is written.
/// 3. A sign of life comes only where the order of the stream has room for it.
final class StreamLine: Sendable {
  let channel: any ByteChannel
  private let state = Mutex(State())

  struct State {
    var sectionCount: UInt64 = 0
    var byteCount: UInt64 = 0
    var isBroken = false
    /// Between `accepted` and `complete`.
    var hasRoomForSigns = false
  }

  init(_ channel: any ByteChannel) { self.channel = channel }

  var snapshot: State { state.withLock { $0 } }

  func setRoomForSigns(_ hasRoom: Bool) { state.withLock { $0.hasRoomForSigns = hasRoom } }

  /// What is no section.
  func put(_ bytes: [UInt8]) throws(ChannelError) {
    try state.withLock { (state: inout State) throws(ChannelError) in
      try write(bytes, first: bytes.count, &state)
    }
  }

  /// One section, written by `body` in pieces.
  /// - Parameter body: is given the sequence, and what writes the first bytes of an array.
  func section(
    last isLast: Bool = false,
    _ body: (
      UInt64, (_ bytes: [UInt8], _ first: Int) throws(ChannelError) -> Void
    ) throws(ChannelError) -> Void
  ) throws(ChannelError) {
    try state.withLock { (state: inout State) throws(ChannelError) in
      if isLast { state.hasRoomForSigns = false }
      let sequence = state.sectionCount
      state.sectionCount &+= 1
      try body(sequence) { (bytes, count) throws(ChannelError) in
        try write(bytes, first: count, &state)
      }
    }
  }

  /// An empty section, where there is room for one.
  func signOfLife() throws(ChannelError) {
    try state.withLock { (state: inout State) throws(ChannelError) in
      guard state.hasRoomForSigns, !state.isBroken else { return }
      let header = StreamSection(.alive, sequence: state.sectionCount).encoded()
      state.sectionCount &+= 1
      try write(header, first: header.count, &state)
    }
  }

  private func write(
    _ bytes: [UInt8], first count: Int, _ state: inout State
  ) throws(ChannelError) {
    guard !state.isBroken else {
      throw ChannelError(.closed, channel: channel.name, operation: "write")
    }
    do throws(ChannelError) {
      try ByteAccess.with(bytes, first: count) { (span) throws(ChannelError) in
        try channel.write(span)
      }
    } catch {
      state.isBroken = true
      throw error
    }
    state.byteCount &+= UInt64(count)
  }
}

/// Says on a stream that its source is there, from any thread: while the source waits for a sync or
/// a device, no byte moves, and the other side would take it for gone.
public final class SignOfLife: Sendable {
  private let line = Mutex<StreamLine?>(nil)

  public init() {}

  /// One sign, where there is a migration under way and the order of the stream has room for it.
  /// What fails shows where the stream is written next.
  public func give() {
    guard let line = line.withLock({ $0 }) else { return }
    do throws(ChannelError) { try line.signOfLife() } catch {}
  }

  func attach(_ new: StreamLine?) { line.withLock { $0 = new } }
}
