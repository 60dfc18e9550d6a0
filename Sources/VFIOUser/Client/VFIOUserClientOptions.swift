/// How a client behaves towards its server.
public struct VFIOUserClientOptions: Hashable, Sendable {
  /// The minor version that is proposed; the server's may be less.
  public var minor: UInt16
  /// What this side accepts in one message.
  public var limits: MessageLimits
  /// Asks for a second socket for the server's commands.
  public var wantsTwinSocket: Bool
  /// How long an answer may take; nil for ever. A server that does not answer in time has lost its
  /// connection.
  public var answerMilliseconds: Int?

  public init(
    minor: UInt16 = 2, limits: MessageLimits = MessageLimits(), wantsTwinSocket: Bool = false,
    answerMilliseconds: Int? = 30_000
  ) {
    precondition(
      !wantsTwinSocket || limits.descriptorCountMax > 0, "the twin socket is a descriptor")
    self.minor = minor
    self.limits = limits
    self.wantsTwinSocket = wantsTwinSocket
    self.answerMilliseconds = answerMilliseconds
  }
}
