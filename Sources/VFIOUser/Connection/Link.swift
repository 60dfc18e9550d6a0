import Locking

/// One socket between the two sides: the main one, or the twin that carries the server's commands.
///
/// Terms:
/// - **Exchange**: a command and the wait for its answer.
/// - **Inbox**: messages that came while something else was awaited.
///
/// States:
///
///     open ── the peer goes, breaks the protocol or is too late; shutDown ──> ended
///
/// Invariants:
/// 1. Messages go out whole and in order: the lock is held for one message at least, and for one
///    exchange where an answer is awaited. The peer of a command may send commands of its own
///    meanwhile; a handler that is given serves them, else they wait in the inbox.
/// 2. While a message is sent whose peer does not read, what the peer sends is read: two sides that
///    send at once do not wait for each other.
/// 3. After the end nothing is sent any more, and every call throws.
/// 4. The inbox is bounded, in messages and in bytes.
final class Link: Sendable {
  typealias Handler = (WireMessage) -> WireMessage?

  fileprivate struct State: Sendable {
    var assembler: MessageAssembler
    var inbox: [WireMessage] = []
    var inboxByteCount = 0
    var nextID: UInt16 = 1
  }

  let name: String
  private let socket: OwnedDescriptor
  /// Readable when something is in the inbox that nobody waits for.
  private let wake: OwnedDescriptor
  private let state: Mutex<State>
  /// Why it ended.
  private let ended = Mutex<VFIOUserError?>(nil)
  /// What the peer accepts. Known after VERSION.
  private let peerLimits: Mutex<MessageLimits>

  init(
    _ socket: OwnedDescriptor, name: String, limits: MessageLimits, peerLimits: MessageLimits
  ) throws(VFIOUserError) {
    guard let wake = SocketSystem.event() else {
      throw VFIOUserError(
        .system, object: name, operation: "eventfd", detail: "no descriptor is left")
    }
    self.name = name
    self.socket = socket
    self.wake = wake
    self.state = Mutex(State(assembler: MessageAssembler(limits: limits)))
    self.peerLimits = Mutex(peerLimits)
  }

  /// For poll(2), by an owner with a loop of its own.
  var descriptor: Int32 { socket.rawValue }
  /// -1, which poll(2) leaves out, once it has ended.
  private var openDescriptor: Int32 { end == nil ? socket.rawValue : -1 }

  var limitsOfPeer: MessageLimits { peerLimits.withLock { $0 } }
  func learn(_ limits: MessageLimits) { peerLimits.withLock { $0 = limits } }

  /// Why it ended; nil while it is open.
  var end: VFIOUserError? { ended.withLock { $0 } }

  /// Ends it, from any thread: whoever waits wakes.
  func shutDown(_ detail: String = "it was closed on this side") {
    finish(VFIOUserError(.connectionLost, object: name, operation: "close", detail: detail))
  }

  /// The first reason stays.
  private func finish(_ reason: VFIOUserError) {
    let isFirst = ended.withLock { ended in
      if ended != nil { return false }
      ended = reason
      return true
    }
    if isFirst {
      SocketSystem.shutDown(socket.rawValue)
      SocketSystem.signal(wake)
    }
  }

  private func check(_ operation: String) throws(VFIOUserError) {
    if let end {
      throw VFIOUserError(
        .connectionLost, object: name, operation: operation, errno: end.errno,
        detail: end.operation == "close" ? end.detail : "it ended before: \(end)")
    }
  }

  /// Runs `body` with the lock, and ends the link where its error does.
  private func locked<R: Sendable>(
    _ operation: String, _ body: (inout State) throws(VFIOUserError) -> R
  ) throws(VFIOUserError) -> R {
    try check(operation)
    do throws(VFIOUserError) {
      return try state.withLock { (state: inout sending State) throws(VFIOUserError) -> R in
        try body(&state)
      }
    } catch {
      let named = error.of(name)
      if named.endsConnection { finish(named) }
      throw named
    }
  }

  // MARK: sending

  /// A command without an answer.
  func post(
    _ command: VFIOUserCommand, _ payload: [UInt8], _ descriptors: [OwnedDescriptor],
    milliseconds: Int?
  ) throws(VFIOUserError) {
    try fit(command, payload.count, descriptors.count)
    let deadline = Deadline(milliseconds: milliseconds)
    try locked("\(command)") { (state) throws(VFIOUserError) in
      let message = command.message(
        payload, descriptors, id: state.takeID(), awaitsReply: false)
      try self.transmit(message, &state, deadline)
    }
  }

  /// An answer.
  func answer(_ message: WireMessage, milliseconds: Int?) throws(VFIOUserError) {
    let deadline = Deadline(milliseconds: milliseconds)
    try locked(message.name) { (state) throws(VFIOUserError) in
      try self.transmit(message, &state, deadline)
    }
  }

  /// A command and its answer.
  /// - Parameters:
  ///   - beside: another link whose commands are served while the answer is awaited.
  ///   - handler: serves the peer's commands; nil: they wait in the inbox.
  func exchange(
    _ command: VFIOUserCommand, _ payload: [UInt8], _ descriptors: [OwnedDescriptor],
    milliseconds: Int?, beside: Link? = nil, handler: Handler?
  ) throws(VFIOUserError) -> WireMessage {
    try fit(command, payload.count, descriptors.count)
    let deadline = Deadline(milliseconds: milliseconds)
    let answer = try locked("\(command)") { (state) throws(VFIOUserError) -> WireMessage in
      let message = command.message(payload, descriptors, id: state.takeID(), awaitsReply: true)
      try self.transmit(message, &state, deadline)
      let answer = try self.awaitReply(to: message, &state, deadline, beside, handler)
      if state.inbox.isEmpty == false { SocketSystem.signal(self.wake) }
      return answer
    }
    if case .errorReply(let errno) = answer.header.kind {
      throw VFIOUserError(.refused, object: name, operation: "\(command)", errno: errno)
    }
    return answer
  }

  private func fit(
    _ command: VFIOUserCommand, _ byteCount: Int, _ descriptorCount: Int
  ) throws(VFIOUserError) {
    let limits = limitsOfPeer
    guard descriptorCount <= limits.descriptorCountMax else {
      throw VFIOUserError(
        .limit, object: name, operation: "\(command)",
        detail: "\(descriptorCount) descriptors, of \(limits.descriptorCountMax) the peer takes")
    }
    guard MessageHeader.byteCount + byteCount <= limits.messageByteCountMax else {
      throw VFIOUserError(
        .limit, object: name, operation: "\(command)",
        detail: "\(byteCount) bytes, past \(limits.messageByteCountMax) the peer takes")
    }
  }

  private func transmit(
    _ message: WireMessage, _ state: inout State, _ deadline: Deadline
  ) throws(VFIOUserError) {
    let head = message.header.encoded()
    let byteCount = head.count + message.payload.count
    var sentCount = 0
    while sentCount < byteCount {
      let sent = SocketSystem.send(
        head, message.payload, from: sentCount, sentCount == 0 ? message.descriptors : [],
        to: socket.rawValue)
      if sent >= 0 {
        sentCount += sent
        continue
      }
      guard sent == -Int(WireErrno.eagain) else { throw lost(message.name, -sent) }
      guard !deadline.isOver else {
        throw VFIOUserError(
          .timedOut, operation: message.name,
          detail: "the peer took \(sentCount) of \(byteCount) bytes")
      }
      let reads = state.hasRoom
      let ready = SocketSystem.wait(
        [.init(descriptor: socket.rawValue, writing: true, reading: reads)],
        milliseconds: deadline.leftMilliseconds)
      if reads, ready?.readable[0] == true { try pull(message.name, &state) }
    }
  }

  // MARK: receiving

  /// Takes what is there, without waiting, into the inbox.
  /// - Returns: false when nothing was there.
  @discardableResult
  private func pull(_ operation: String, _ state: inout State) throws(VFIOUserError) -> Bool {
    let (count, message) = try state.assembler.advance {
      SocketSystem.receive(into: &$0, from: $1, descriptorCountMax: $2, socket.rawValue)
    }
    if count == -Int(WireErrno.eagain) { return false }
    guard count > 0 else { throw lost(operation, count == 0 ? 0 : -count) }
    if let message { state.enter(message) }
    return true
  }

  private func lost(_ operation: String, _ errno: Int) -> VFIOUserError {
    VFIOUserError(
      .connectionLost, operation: operation, errno: Int32(errno),
      detail: end?.detail ?? (errno == 0 ? "the peer closed it" : ""))
  }

  private func awaitReply(
    to command: WireMessage, _ state: inout State, _ deadline: Deadline, _ beside: Link?,
    _ handler: Handler?
  ) throws(VFIOUserError) -> WireMessage {
    while true {
      while let next = state.take(commandsToo: handler != nil) {
        if next.header.isReply {
          guard next.header.id == command.header.id,
            next.header.command == command.header.command
          else {
            throw VFIOUserError(
              .protocolBroken, operation: command.name,
              detail: "an answer came to message \(next.header.id) of \(next.name)")
          }
          return next
        }
        if let answer = handler?(next), next.awaitsReply {
          try transmit(answer, &state, deadline)
        }
      }
      guard state.hasRoom else {
        throw VFIOUserError(
          .protocolBroken, operation: command.name,
          detail: "\(state.inbox.count) commands came instead of an answer")
      }
      if try pull(command.name, &state) { continue }
      guard !deadline.isOver else {
        throw VFIOUserError(
          .timedOut, operation: command.name, detail: "what it did is not known")
      }
      let ready = SocketSystem.wait(
        [.init(descriptor: socket.rawValue), .init(descriptor: beside?.openDescriptor ?? -1)],
        milliseconds: deadline.leftMilliseconds)
      if let beside, let handler, ready?.readable[1] == true {
        // Its error ends that link, not this exchange.
        _ = try? beside.serveWaiting(milliseconds: Int(deadline.leftMilliseconds), handler)
      }
    }
  }

  /// Serves the commands that are there, without waiting for more.
  /// - Returns: how many.
  @discardableResult
  func serveWaiting(milliseconds: Int?, _ handler: Handler) throws(VFIOUserError) -> Int {
    let deadline = Deadline(milliseconds: milliseconds)
    return try locked("serve") { (state) throws(VFIOUserError) -> Int in
      SocketSystem.clear(self.wake)
      var count = 0
      repeat {
        while let next = state.take(commandsToo: true) {
          guard !next.header.isReply else { throw Self.unasked(next) }
          count += 1
          if let answer = handler(next), next.awaitsReply {
            try self.transmit(answer, &state, deadline)
          }
        }
      } while try self.pull("serve", &state)
      return count
    }
  }

  private static func unasked(_ message: WireMessage) -> VFIOUserError {
    VFIOUserError(
      .protocolBroken, operation: message.name, detail: "an answer came and nothing was asked")
  }

  /// Waits, without the lock, until something is there or the time is over.
  /// - Returns: false when the time is over.
  func waitForMessages(milliseconds: Int?, beside: Link? = nil) throws(VFIOUserError) -> Bool {
    let deadline = Deadline(milliseconds: milliseconds)
    while true {
      try check("serve")
      let ready = SocketSystem.wait(
        [
          .init(descriptor: socket.rawValue), .init(descriptor: wake.rawValue),
          .init(descriptor: beside?.openDescriptor ?? -1),
        ], milliseconds: deadline.leftMilliseconds)
      if ready?.readable.contains(true) == true { return true }
      if deadline.isOver { return false }
    }
  }

  /// The next command of the peer, once something is there.
  /// - Returns: nil when there is none yet.
  func nextCommand() throws(VFIOUserError) -> WireMessage? {
    try locked("serve") { (state) throws(VFIOUserError) -> WireMessage? in
      SocketSystem.clear(self.wake)
      while true {
        if let next = state.take(commandsToo: true) {
          guard !next.header.isReply else { throw Self.unasked(next) }
          if !state.inbox.isEmpty { SocketSystem.signal(self.wake) }
          return next
        }
        guard try self.pull("serve", &state) else { return nil }
      }
    }
  }
}

extension Link.State {
  /// Far more than a guest's IOMMU has in flight; a peer that sends more is not one.
  private static let inboxCountMax = 4096
  private static let inboxByteCountMax = 16 << 20

  fileprivate var hasRoom: Bool {
    inbox.count < Self.inboxCountMax && inboxByteCount < Self.inboxByteCountMax
  }

  fileprivate mutating func takeID() -> UInt16 {
    defer { nextID &+= 1 }
    return nextID
  }

  fileprivate mutating func enter(_ message: WireMessage) {
    inbox.append(message)
    inboxByteCount += message.payload.count
  }

  /// The first message; the first answer where commands are to wait.
  fileprivate mutating func take(commandsToo: Bool) -> WireMessage? {
    guard let index = inbox.firstIndex(where: { commandsToo || $0.header.isReply }) else {
      return nil
    }
    let message = inbox.remove(at: index)
    inboxByteCount -= message.payload.count
    return message
  }
}

extension VFIOUserCommand {
  fileprivate func message(
    _ payload: [UInt8], _ descriptors: [OwnedDescriptor], id: UInt16, awaitsReply: Bool
  ) -> WireMessage {
    WireMessage(
      header: MessageHeader(
        id: id, command: rawValue, payloadByteCount: payload.count,
        kind: .command(awaitsReply: awaitsReply)),
      payload: payload, descriptors: descriptors)
  }
}
