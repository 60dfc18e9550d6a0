public import Addressing

/// What a comparison of the two machines, byte for byte, found.
public struct SampleVerdict: Hashable, Sendable {
  /// Pages of 4 KiB.
  public var pagesCompared: UInt64 = 0
  public var pagesDifferent: UInt64 = 0
  /// The first of them by GPA, at most ``listedCountMax``.
  public var different: [GPA] = []
  /// Devices whose state or configuration is not what it was.
  public var devicesDifferent: [String] = []

  public static let listedCountMax = 64

  public var isEqual: Bool { pagesDifferent == 0 && devicesDifferent.isEmpty }

  public init() {}
}
