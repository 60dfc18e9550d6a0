/// An answer to DMA by message that is given later, once.
public struct DMAAnswer: Sendable {
  private let message: WireMessage
  private let request: VFIOUserRequest
  private let link: Link

  init(_ message: WireMessage, _ request: VFIOUserRequest, on link: Link) {
    self.message = message
    self.request = request
    self.link = link
  }

  /// - Parameter data: what was read; as many bytes as were asked for. Nothing for a write.
  public func done(_ data: [UInt8] = []) {
    switch request {
    case .dmaRead(let range):
      precondition(data.count == range.byteCount, "as many bytes as were asked for")
      send(message.answer(range.encoded() + data))
    case .dmaWrite(let range, _): send(message.answer(range.encoded()))
    default: refused(WireErrno.einval)
    }
  }

  public func refused(_ errno: Int32) { send(message.refusal(errno)) }

  private func send(_ answer: WireMessage) {
    if message.awaitsReply { link.answerLater(answer) }
  }
}
