/// How a server behaves towards its client.
public struct VFIOUserServerOptions: Hashable, Sendable {
  /// The highest minor version; a client with less gets its own.
  public var minor: UInt16
  /// What this side accepts in one message.
  public var limits: MessageLimits
  /// Gives a client that asks for it a second socket for DMA by message.
  public var offersTwinSocket: Bool
  /// Says that DMA_LOGGING_REPORT takes any range (`dirty_ranges`), which this server's does.
  public var saysItReportsAnyRange: Bool
  /// QEMU refuses a server that says more mappings.
  public static let mappingCountLargest = 65535

  /// Mappings at most.
  public var mappingCountMax: Int
  /// How long an answer to DMA by message, or a client that does not read, may take; nil for ever.
  public var answerMilliseconds: Int?

  public init(
    minor: UInt16 = 2, limits: MessageLimits = MessageLimits(), offersTwinSocket: Bool = true,
    saysItReportsAnyRange: Bool = true, mappingCountMax: Int = mappingCountLargest,
    answerMilliseconds: Int? = 30_000
  ) {
    self.minor = minor
    self.limits = limits
    self.offersTwinSocket = offersTwinSocket
    self.saysItReportsAnyRange = saysItReportsAnyRange
    self.mappingCountMax = mappingCountMax
    self.answerMilliseconds = answerMilliseconds
  }
}
