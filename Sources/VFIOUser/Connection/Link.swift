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
/// 5. While commands are held none is handled, nor is one being handled: they wait in the inbox.
final class Link: Sendable {
  /// Answers a command that came on a link; nil: no answer, or one by ``answerLater(_:)``.
  typealias Handler = (Link, WireMessage) -> WireMessage?
  /// Takes the answer to a command that nobody waits for, or why there is none.
  typealias Completion = @Sendable (Result<WireMessage, VFIOUserError>) -> Void

  fileprivate struct State: Sendable {
    var assembler: MessageAssembler
    var inbox: [WireMessage] = []
    var inboxByteCount = 0
    var nextID: UInt16 = 1
    /// Commands that were sent and not waited for, by their id.
    var completions: [UInt16: Completion] = [:]
  }

  let name: String
  private let socket: OwnedDescriptor
  /// Readable when something is in the inbox that nobody waits for, or in the outbox.
  private let wake: OwnedDescriptor
  private let state: Mutex<State>
  /// Why it ended.
  private let ended = Mutex<VFIOUserError?>(nil)
  /// What the peer accepts. Known after VERSION.
  private let peerLimits: Mutex<MessageLimits>
  /// Whether the peer's commands are held. Locked while one is handled.
  private let handling = Mutex(false)
  /// Answers given later. Whoever has the lock, or takes it next, sends them.
  private let outbox = Mutex<[WireMessage]>([])
  /// The inbox takes no more while commands are held: the socket is left alone.
  private let isFull = Mutex(false)

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
  /// -1, which poll(2) leaves out, while its inbox is full and when it has ended.
  private var watchedDescriptor: Int32 {
    end == nil && !isFull.withLock { $0 } ? socket.rawValue : -1
  }

  /// -1 when it has ended: what was signalled last stays so.
  private var watchedWake: Int32 { end == nil ? wake.rawValue : -1 }

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

  /// An answer that is sent by whoever awaits or serves something here: its own caller may be what
  /// an exchange waits for.
  func answerLater(_ message: WireMessage) {
    outbox.withLock { $0.append(message) }
    SocketSystem.signal(wake)
  }

  private func sendOutbox(_ state: inout State, _ deadline: Deadline) throws(VFIOUserError) {
    let messages = outbox.withLock { outbox in
      defer { outbox = [] }
      return outbox
    }
    for message in messages { try transmit(message, &state, deadline) }
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
      if !state.inbox.isEmpty { SocketSystem.signal(self.wake) }
      return answer
    }
    return try answer.accepted(by: name)
  }

  /// A command whose answer is given to `completion`, by the thread in ``nextCommand()``, or by one
  /// in an exchange, which has the lock then: beside exchanges a completion must not use this link.
  /// - Throws: nothing was sent then, and `completion` is not called.
  func send(
    _ command: VFIOUserCommand, _ payload: [UInt8], milliseconds: Int?,
    completion: @escaping Completion
  ) throws(VFIOUserError) {
    try fit(command, payload.count, 0)
    let deadline = Deadline(milliseconds: milliseconds)
    try locked("\(command)") { (state) throws(VFIOUserError) in
      guard state.completions.count < State.completionCountMax else {
        throw VFIOUserError(
          .limit, operation: "\(command)",
          detail: "\(state.completions.count) commands wait for their answers")
      }
      let message = command.message(payload, [], id: state.takeID(), awaitsReply: true)
      try self.transmit(message, &state, deadline)
      state.completions[message.header.id] = completion
    }
  }

  /// A command and its answer; the peer's commands go on meanwhile. Not to be called by the thread
  /// that serves them.
  func exchangeAside(
    _ command: VFIOUserCommand, _ payload: [UInt8], milliseconds: Int?
  ) throws(VFIOUserError) -> WireMessage {
    guard let came = SocketSystem.event() else {
      throw VFIOUserError(
        .system, object: name, operation: "eventfd", detail: "no descriptor is left")
    }
    let deadline = Deadline(milliseconds: milliseconds)
    let answer = AnswerBox()
    try send(command, payload, milliseconds: milliseconds) { result in
      answer.result.withLock { $0 = result }
      SocketSystem.signal(came)
    }
    while true {
      if let result = answer.result.withLock({ $0 }) {
        return try result.get().accepted(by: name)
      }
      guard !deadline.isOver else {
        let error = VFIOUserError(
          .timedOut, object: name, operation: "\(command)", detail: "what it did is not known")
        finish(error)
        throw error
      }
      try takeAnswers(orUntil: came, milliseconds: deadline.leftMilliseconds)
    }
  }

  /// Commands that were sent and whose answers have not come.
  var isAwaitingAnswers: Bool { state.withLock { !$0.completions.isEmpty } }

  /// Waits for something to come, and gives answers to those who want them. The thread that serves
  /// the peer's commands may be in a call that needs them. Commands stay, for that thread.
  func takeAnswers(
    orUntil event: OwnedDescriptor? = nil, milliseconds: Int32
  ) throws(VFIOUserError) {
    let (came, isFull) = try locked("answer") {
      (state) throws(VFIOUserError) -> ([(Completion, WireMessage)], Bool) in
      var came: [(Completion, WireMessage)] = []
      repeat {
        while let next = state.take(commandsToo: false) {
          guard let completion = state.completions.removeValue(forKey: next.header.id) else {
            throw Self.unasked(next)
          }
          came.append((completion, next))
        }
        guard state.hasRoom else { break }
      } while try self.pull("answer", &state)
      if !state.inbox.isEmpty { SocketSystem.signal(self.wake) }
      return (came, !state.hasRoom)
    }
    // Without the lock: it may send on another link.
    for (completion, message) in came { completion(.success(message)) }
    guard came.isEmpty else { return }
    _ = SocketSystem.wait(
      [
        .init(descriptor: isFull ? -1 : socket.rawValue),
        .init(descriptor: event?.rawValue ?? -1),
      ], milliseconds: milliseconds)
  }

  /// Nobody reads this link any more: who waits for an answer learns it.
  func failCompletions() {
    let left = state.withLock { (state: inout sending State) -> [Completion] in
      defer { state.completions = [:] }
      return Array(state.completions.values)
    }
    let error = VFIOUserError(
      .connectionLost, object: name, operation: "answer", detail: end?.detail ?? "")
    for completion in left { completion(.failure(error)) }
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
      try sendOutbox(&state, deadline)
      while let next = state.take(commandsToo: handler != nil && !isHolding) {
        if next.header.isReply {
          if next.header.id != command.header.id,
            let completion = state.completions.removeValue(forKey: next.header.id)
          {
            completion(.success(next))
            continue
          }
          guard next.header.id == command.header.id,
            next.header.command == command.header.command
          else {
            throw VFIOUserError(
              .protocolBroken, operation: command.name,
              detail: "an answer came to message \(next.header.id) of \(next.name)")
          }
          return next
        }
        guard let handler, try handle(next, &state, deadline, handler) else { break }
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
      // An inbox that is not empty is told of again at the end.
      SocketSystem.clear(wake)
      guard outbox.withLock({ $0.isEmpty }) else { continue }
      let ready = SocketSystem.wait(
        [
          .init(descriptor: socket.rawValue), .init(descriptor: wake.rawValue),
          .init(descriptor: beside?.watchedDescriptor ?? -1),
          .init(descriptor: beside?.watchedWake ?? -1),
        ], milliseconds: deadline.leftMilliseconds)
      if let beside, let handler, let ready, ready.readable[2] || ready.readable[3] {
        // Its error ends that link, not this exchange.
        _ = try? beside.serveWaiting(milliseconds: Int(deadline.leftMilliseconds), handler)
      }
    }
  }

  // MARK: holding

  private var isHolding: Bool { handling.withLock { $0 } }

  /// From its return on none of the peer's commands is handled, until ``release()``.
  func hold() { handling.withLock { $0 = true } }

  func release() {
    handling.withLock { $0 = false }
    isFull.withLock { $0 = false }
    SocketSystem.signal(wake)
  }

  /// - Returns: false when commands are held since a moment ago; this one waits again.
  private func handle(
    _ message: WireMessage, _ state: inout State, _ deadline: Deadline, _ handler: Handler
  ) throws(VFIOUserError) -> Bool {
    let (isHandled, answer) = handling.withLock { isHolding -> (Bool, WireMessage?) in
      isHolding ? (false, nil) : (true, handler(self, message))
    }
    guard isHandled else {
      state.putBack(message)
      return false
    }
    if let answer, message.awaitsReply { try transmit(answer, &state, deadline) }
    return true
  }

  /// Serves the commands that are there, without waiting for more.
  /// - Returns: how many.
  @discardableResult
  func serveWaiting(milliseconds: Int?, _ handler: Handler) throws(VFIOUserError) -> Int {
    let deadline = Deadline(milliseconds: milliseconds)
    return try locked("serve") { (state) throws(VFIOUserError) -> Int in
      SocketSystem.clear(self.wake)
      try self.sendOutbox(&state, deadline)
      var count = 0
      repeat {
        while !self.isHolding, let next = state.take(commandsToo: true) {
          guard !next.header.isReply else { throw Self.unasked(next) }
          guard try self.handle(next, &state, deadline, handler) else { break }
          count += 1
        }
        guard state.hasRoom else { break }
      } while try self.pull("serve", &state)
      // Held, and no more is taken in: not to be woken by what stays in the socket.
      self.isFull.withLock { $0 = !state.hasRoom }
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
          .init(descriptor: watchedDescriptor), .init(descriptor: wake.rawValue),
          .init(descriptor: beside?.watchedDescriptor ?? -1),
          .init(descriptor: beside?.watchedWake ?? -1),
        ], milliseconds: deadline.leftMilliseconds)
      if ready?.readable.contains(true) == true { return true }
      if deadline.isOver { return false }
    }
  }

  /// The next command of the peer, once something is there. Answers that nobody waits for are given
  /// to those who want them.
  /// - Returns: nil when there is none yet.
  func nextCommand() throws(VFIOUserError) -> WireMessage? {
    while true {
      let (message, completion) = try locked("serve") {
        (state) throws(VFIOUserError) -> (WireMessage?, Completion?) in
        SocketSystem.clear(self.wake)
        while true {
          if let next = state.take(commandsToo: true) {
            if !state.inbox.isEmpty { SocketSystem.signal(self.wake) }
            guard next.header.isReply else { return (next, nil) }
            guard let completion = state.completions.removeValue(forKey: next.header.id) else {
              throw Self.unasked(next)
            }
            return (next, completion)
          }
          guard try self.pull("serve", &state) else { return (nil, nil) }
        }
      }
      // Without the lock: it may send on another link.
      guard let completion, let message else { return message }
      completion(.success(message))
    }
  }
}

private final class AnswerBox: Sendable {
  let result = Mutex<Result<WireMessage, VFIOUserError>?>(nil)
}

extension Link.State {
  /// Far more than a guest's IOMMU has in flight; a peer that sends more is not one.
  private static let inboxCountMax = 4096
  private static let inboxByteCountMax = 16 << 20

  fileprivate static let completionCountMax = 1024

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

  /// As if it had not been taken.
  fileprivate mutating func putBack(_ message: WireMessage) {
    inbox.insert(message, at: 0)
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
