public import Addressing
import DMAContainer
import Locking

/// A device server: one client at a time.
///
/// Terms:
/// - **Command of the client**: carried out in order, one at a time, by the thread in
/// ``serve(_:)``.
/// - **DMA by message**: a command of this side. Any thread may ask for it. Commands of the client
///   go on meanwhile, however long the client takes to answer; they wait where the device asks from
///   inside of a call of its own.
///
/// Invariants:
/// 1. Every command that awaits an answer gets one, an error for what it must not say. Only a
/// message
///    whose framing is broken closes the connection, and a first one that is no VERSION.
/// 2. The memory one client can have this side hold is bounded by its options, whatever it sends.
/// 3. The answer to an unmap goes out after the device has let go of the memory.
/// 4. When the client is gone, the device has none of its memory and none of its descriptors. Its
///    state stays.
///
/// States:
///
///     idle ── serve ──> negotiating ── VERSION ──> serving ── the client goes, shutDown ──> idle
public final class VFIOUserServer: Sendable {
  private struct Links: Sendable {
    var main: Link?
    /// Where DMA by message goes: the twin, or the main one.
    var dma: Link?
    /// Who is in ``serve(_:)``.
    var server: ServingThread?
  }

  public let device: any VFIOUserDevice
  public let options: VFIOUserServerOptions
  private let links = Mutex(Links())

  /// - Precondition: the device's log answers after an unmap.
  public init(device: any VFIOUserDevice, options: VFIOUserServerOptions = .init()) {
    precondition(
      device.dirtyLog?.capabilities.isAskedAfterUnmap != false,
      "an unmap reports what was written until it was done")
    self.device = device
    self.options = options
  }

  /// Negotiates with one client and serves it, until it goes, breaks the protocol, or
  /// ``shutDown()``.
  /// - Returns: why it ended.
  /// - Precondition: no other client is served.
  @discardableResult
  public func serve(_ socket: OwnedDescriptor) -> VFIOUserError {
    let session: ServerSession
    do throws(VFIOUserError) {
      // Until it said otherwise, a client takes one descriptor.
      let link = try Link(
        socket, name: device.name, limits: options.limits,
        peerLimits: MessageLimits(descriptorCountMax: 1))
      links.withLock { links in
        precondition(links.main == nil, "one client at a time")
        links.main = link
        links.server = ServingThread()
      }
      defer {
        links.withLock { $0 = Links() }
        link.shutDown()
      }
      session = ServerSession(link: link, device: device, options: options)
      let twin = try session.negotiate()
      links.withLock { $0.dma = twin ?? link }
      defer {
        twin?.shutDown()
        link.failCompletions()
        session.end()
      }
      try session.serve()
    } catch {
      return error
    }
  }

  /// Ends the connection, from any thread.
  public func shutDown() {
    let links = links.withLock { $0 }
    links.dma?.shutDown()
    links.main?.shutDown()
  }

  // MARK: DMA by message

  /// Reads the client's memory at `iova`.
  /// - Throws: `refused` with the client's errno; `timedOut`, after which the connection is closed:
  ///   a client that does not serve while it waits must not hold up the device for ever.
  public func readDMA(_ byteCount: Int, at iova: IOVA) throws(VFIOUserError) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount)
    try inPieces(byteCount, at: iova) { (link, range, _) throws(VFIOUserError) in
      let request = VFIOUserRequest.dmaRead(range)
      guard case .dmaRead(let part) = try self.exchange(request, link) else {
        preconditionFailure("an answer has the form of its request")
      }
      bytes += part
    }
    return bytes
  }

  /// Writes the client's memory at `iova`. The client marks it dirty before it answers.
  /// - Throws: as ``readDMA(_:at:)``; earlier pieces of a write of several have been written.
  public func writeDMA(_ bytes: [UInt8], at iova: IOVA) throws(VFIOUserError) {
    try inPieces(bytes.count, at: iova) { (link, range, start) throws(VFIOUserError) in
      let data = Array(bytes[start..<start + range.byteCount])
      _ = try self.exchange(.dmaWrite(range, data), link)
    }
  }

  /// Asks for DMA of at most one message and does not wait: `completion` is called with the answer
  /// by the thread in ``serve(_:)``, between two commands, or by one in ``takeAnswers()``. For
  /// whoever must not wait at all. Never beside ``readDMA(_:at:)`` and
  /// ``writeDMA(_:at:)``; not with a twin socket, which nobody reads then.
  /// - Throws: nothing was sent, and `completion` is not called.
  public func request(
    _ request: VFIOUserRequest,
    completion: @escaping @Sendable (Result<VFIOUserReply, VFIOUserError>) -> Void
  ) throws(VFIOUserError) {
    precondition(request.command.sender == .server, "\(request.command) is a client's")
    precondition(!options.offersTwinSocket, "nobody reads the twin socket")
    guard let link = links.withLock({ $0.main }) else {
      throw VFIOUserError(
        .connectionLost, object: device.name, operation: "DMA", detail: "there is no client")
    }
    try link.send(
      request.command, request.encoded(), milliseconds: options.answerMilliseconds
    ) { [self] result in
      completion(
        Result { () throws(VFIOUserError) in
          try reply(in: result.get().accepted(by: device.name), to: request)
        })
    }
  }

  /// Returns when nothing that ``request(_:completion:)`` asked for is awaited any more. A command
  /// of the client may be waiting for just that, in the thread in ``serve(_:)``.
  public func takeAnswers() throws(VFIOUserError) {
    while let link = links.withLock({ $0.main }), link.isAwaitingAnswers {
      try link.takeAnswers(milliseconds: 1000)
    }
  }

  private func exchange(
    _ request: VFIOUserRequest, _ link: Link
  ) throws(VFIOUserError) -> VFIOUserReply {
    let answer: WireMessage
    let (main, server) = links.withLock { ($0.main, $0.server) }
    if link === main, server != ServingThread() {
      answer = try link.exchangeAside(
        request.command, request.encoded(), milliseconds: options.answerMilliseconds)
    } else {
      answer = try link.exchange(
        request.command, request.encoded(), [], milliseconds: options.answerMilliseconds,
        handler: nil)
    }
    return try reply(in: answer, to: request)
  }

  private func reply(
    in answer: WireMessage, to request: VFIOUserRequest
  ) throws(VFIOUserError) -> VFIOUserReply {
    do throws(VFIOUserError) {
      return try VFIOUserReply(decoding: answer.payload, to: request)
    } catch {
      throw error.of(device.name)
    }
  }

  private func inPieces(
    _ byteCount: Int, at iova: IOVA,
    _ body: (Link, DMAMessageRange, Int) throws(VFIOUserError) -> Void
  ) throws(VFIOUserError) {
    guard let link = links.withLock({ $0.dma }) else {
      throw VFIOUserError(
        .connectionLost, object: device.name, operation: "DMA", detail: "there is no client")
    }
    guard byteCount > 0 else { return }
    guard IOVARange(first: iova, byteCount: UInt64(byteCount)) != nil else {
      throw VFIOUserError(
        .limit, object: device.name, operation: "DMA", detail: "it runs past IOVA 2^64-1")
    }
    let pieceByteCount = min(link.limitsOfPeer.dataByteCountMax, options.limits.dataByteCountMax)
    for start in stride(from: 0, to: byteCount, by: pieceByteCount) {
      let range = DMAMessageRange(
        first: IOVA(iova.rawValue + UInt64(start)),
        byteCount: min(pieceByteCount, byteCount - start))
      try body(link, range, start)
    }
  }
}
