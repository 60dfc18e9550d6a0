import Locking

/// This side of a connection to a device server.
///
/// Terms:
/// - **Server**: owns the device. It answers commands, and may ask for DMA by message.
/// - **Handler**: carries that DMA out. It serves while an answer is awaited, so that a server that
///   does DMA before it answers an unmap does not wait for ever; and in ``serve(milliseconds:)``.
///
/// Invariants:
/// 1. One command awaits its answer at a time; others wait for the lock. The handler is called by
///    whoever holds it.
/// 2. No command exceeds what the server said it accepts: it is refused here, and nothing is sent.
/// 3. A descriptor that came with an answer is owned by whoever takes the answer, or closed.
/// 4. After an answer that did not come in time, or broke the framing, the connection is closed:
///    every later call throws `connectionLost`.
///
/// States:
///
///     connected ── VERSION ──> negotiated ── the server goes, or an error that ends it ──> ended
public final class VFIOUserClient: Sendable {
  /// The server, by the name it was given here.
  public let name: String
  public let options: VFIOUserClientOptions
  /// What the server answered to VERSION.
  public let server: VersionMessage
  let main: Link
  /// Where the server sends its commands, if not on the main socket.
  let twin: Link?
  private let handler = Mutex(HeldHandler())

  private struct HeldHandler: Sendable {
    weak var handler: (any DMAMessageHandler)?
  }

  /// Negotiates.
  /// - Throws: `refused` where the server takes no such version, `malformed` for an answer that is
  ///   no VERSION, and what ends a connection. The socket is closed then.
  public init(
    socket: OwnedDescriptor, name: String, options: VFIOUserClientOptions = .init()
  ) throws(VFIOUserError) {
    self.name = name
    self.options = options
    // Before the answer nothing is known of the server, and VERSION has no descriptors.
    main = try Link(socket, name: name, limits: options.limits, peerLimits: MessageLimits())
    let said = VersionMessage(
      minor: options.minor,
      capabilities: VersionCapabilities(
        descriptorCountMax: options.limits.descriptorCountMax,
        dataByteCountMax: options.limits.dataByteCountMax,
        twinSocket: options.wantsTwinSocket ? .init(isSupported: true) : nil,
        writesMultiple: true))
    let request = VFIOUserRequest.version(said)
    let message = try main.exchange(
      .version, request.encoded(), [], milliseconds: options.answerMilliseconds, handler: nil)
    let reply: VFIOUserReply
    do throws(VFIOUserError) {
      reply = try VFIOUserReply(decoding: message.payload, to: request)
    } catch {
      main.shutDown("its answer to VERSION was no answer")
      throw error.of(name)
    }
    guard case .version(let answer) = reply else { preconditionFailure("VERSION answers VERSION") }
    guard answer.major == said.major, answer.minor <= said.minor else {
      main.shutDown("its version is another")
      throw VFIOUserError(
        .protocolBroken, object: name, operation: "VERSION",
        detail: "it answers version \(answer.major).\(answer.minor) to"
          + " \(said.major).\(said.minor)")
    }
    server = answer
    main.learn(answer.capabilities.limits)
    twin = try Self.twin(answer.capabilities.twinSocket, message.descriptors, main, options)
  }

  /// - Throws: `protocolBroken` where the server says that there is a twin socket and gives none.
  private static func twin(
    _ said: VersionCapabilities.TwinSocket?, _ descriptors: [OwnedDescriptor], _ main: Link,
    _ options: VFIOUserClientOptions
  ) throws(VFIOUserError) -> Link? {
    guard let said, said.isSupported, options.wantsTwinSocket else { return nil }
    guard let index = said.descriptorIndex, index < descriptors.count else {
      main.shutDown("it gave no twin socket")
      throw VFIOUserError(
        .protocolBroken, object: main.name, operation: "VERSION",
        detail: "it promises a twin socket and gives no descriptor for it")
    }
    return try Link(
      descriptors[index], name: "\(main.name), twin", limits: options.limits,
      peerLimits: main.limitsOfPeer)
  }

  /// Connects to a server's socket.
  public convenience init(
    path: String, name: String, options: VFIOUserClientOptions = .init()
  ) throws(VFIOUserError) {
    try self.init(
      socket: try VFIOUserSocket.connect(path, name: name), name: name, options: options)
  }

  /// Both sides' limit of data in one message.
  public var dataByteCountMax: Int {
    min(options.limits.dataByteCountMax, main.limitsOfPeer.dataByteCountMax)
  }

  /// Bytes of the largest dirty bitmap one answer may have.
  var bitmapByteCountMax: Int {
    MessageLimits(dataByteCountMax: dataByteCountMax).bitmapByteCountMax
  }

  /// Why the connection ended; nil while it is up.
  public var end: VFIOUserError? { main.end ?? twin?.end }

  /// Ends the connection, from any thread.
  public func shutDown() {
    main.shutDown()
    twin?.shutDown()
  }

  /// Who carries out the server's DMA from now on. Held weakly; without one it is answered EFAULT.
  public func serveDMA(by handler: any DMAMessageHandler) {
    self.handler.withLock { $0.handler = handler }
  }

  /// From its return on the server's DMA by message is neither carried out nor answered, and none
  /// is being carried out, until ``releaseDMA()``. Commands of this side go on. What comes
  /// meanwhile waits; past 4096 messages or 16 MiB of it nothing more is read, and a command of
  /// this side then ends the connection.
  public func holdDMA() {
    main.hold()
    twin?.hold()
  }

  public func releaseDMA() {
    main.release()
    twin?.release()
  }

  // MARK: commands

  /// Sends a command, and awaits the answer.
  /// - Throws: `refused` with the server's errno; `limit` where it exceeds what the server accepts;
  ///   `malformed` for an answer that means nothing; and what ends a connection.
  public func request(
    _ request: VFIOUserRequest, descriptors: [OwnedDescriptor] = []
  ) throws(VFIOUserError) -> (reply: VFIOUserReply, descriptors: [OwnedDescriptor]) {
    precondition(request.command.sender == .client, "\(request.command) is a server's")
    let message = try main.exchange(
      request.command, request.encoded(), descriptors, milliseconds: options.answerMilliseconds,
      beside: twin, handler: serving)
    do throws(VFIOUserError) {
      return (try VFIOUserReply(decoding: message.payload, to: request), message.descriptors)
    } catch {
      throw error.of(name)
    }
  }

  /// Sends a command that gets no answer (No_reply). Whether it did anything is not known; when a
  /// later command is answered, it has been carried out.
  public func post(
    _ request: VFIOUserRequest, descriptors: [OwnedDescriptor] = []
  ) throws(VFIOUserError) {
    precondition(request.command.sender == .client, "\(request.command) is a server's")
    try main.post(
      request.command, request.encoded(), descriptors, milliseconds: options.answerMilliseconds)
  }

  // MARK: the server's commands

  /// Waits for commands of the server and serves them. For a thread or a loop of the owner: while
  /// no
  /// command of this side is under way, nobody else does.
  /// - Returns: false when none came in time.
  @discardableResult
  public func serve(milliseconds: Int?) throws(VFIOUserError) -> Bool {
    if let end = twin?.end { throw end }
    guard try main.waitForMessages(milliseconds: milliseconds, beside: twin) else { return false }
    try twin?.serveWaiting(milliseconds: options.answerMilliseconds, serving)
    try main.serveWaiting(milliseconds: options.answerMilliseconds, serving)
    return true
  }

  /// For poll(2): readable when ``serve(milliseconds:)`` has something to do.
  public var descriptors: [Int32] { [main.descriptor] + (twin.map { [$0.descriptor] } ?? []) }

  /// Answers one command of the server.
  private var serving: Link.Handler {
    { [self] link, message in
      let held = handler.withLock { $0.handler }
      let request: VFIOUserRequest
      do throws(VFIOUserError) {
        request = try VFIOUserRequest(
          decoding: message.header.command, message.payload, from: .server,
          limits: options.limits)
      } catch {
        return message.refusal(error.errno)
      }
      guard let held else { return message.refusal(WireErrno.efault) }
      if held.takesOver(request, DMAAnswer(message, request, on: link)) { return nil }
      switch request {
      case .dmaRead(let range):
        var payload = range.encoded()
        let start = payload.count
        payload += [UInt8](repeating: 0, count: range.byteCount)
        let errno = WireBytes.writing(&payload, from: start) {
          held.read(into: &$0, at: range.first)
        }
        return errno == 0 ? message.answer(payload) : message.refusal(errno)
      case .dmaWrite(let range, _):
        // The data lie at the end of the payload: not copied once more.
        let errno = WireBytes.reading(
          message.payload, from: message.payload.count - range.byteCount
        ) { held.write($0, at: range.first) }
        return errno == 0 ? message.answer(range.encoded()) : message.refusal(errno)
      default: return message.refusal(WireErrno.einval)
      }
    }
  }
}
