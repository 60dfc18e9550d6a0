/// How long the guest stood still, in parts. Nanoseconds, and bytes where something was sent.
public struct DowntimeMeasured: Sendable, Hashable {
  public var stopVCPUsNanoseconds: UInt64 = 0
  /// All devices to P2P.
  public var p2pNanoseconds: UInt64 = 0
  /// All devices to STOP_COPY.
  public var stopCopyNanoseconds: UInt64 = 0
  public var finalSyncNanoseconds: UInt64 = 0
  public var pagesNanoseconds: UInt64 = 0
  public var pagesBytes: UInt64 = 0
  public var deviceNanoseconds: UInt64 = 0
  public var deviceBytes: UInt64 = 0
  /// Configuration of devices, machine state, totals.
  public var stateNanoseconds: UInt64 = 0
  /// Until the destination said that everything is loaded. 0 one-way.
  public var loadedNanoseconds: UInt64 = 0
  /// From the word to start until the destination said that the guest runs. 0 one-way.
  public var startNanoseconds: UInt64 = 0
  /// From the stop of vCPUs to the last word, all parts and what lies between them.
  public var totalNanoseconds: UInt64 = 0

  public init() {}
}
