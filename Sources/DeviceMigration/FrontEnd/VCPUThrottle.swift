/// How a guest that writes faster than it is sent is slowed: a share of the time is taken from its
/// vCPUs, more in each round that brings no progress. Percent.
public struct VCPUThrottle: Sendable, Hashable {
  public var initialPercent: Int
  public var incrementPercent: Int
  /// Below 100: a guest that does not run at all is a stopped one, and that is another decision.
  public var percentMax: Int

  /// - Precondition: all in 1 to 99, the first not above the last.
  public init(initialPercent: Int = 20, incrementPercent: Int = 10, percentMax: Int = 99) {
    precondition(
      (1...99).contains(initialPercent) && (1...99).contains(incrementPercent)
        && (initialPercent...99).contains(percentMax), "a share of 1 to 99 %")
    self.initialPercent = initialPercent
    self.incrementPercent = incrementPercent
    self.percentMax = percentMax
  }

  /// What comes after `percent`; nil when there is no more to take.
  public func next(after percent: Int) -> Int? {
    guard percent < percentMax else { return nil }
    return percent == 0 ? initialPercent : min(percent + incrementPercent, percentMax)
  }
}
