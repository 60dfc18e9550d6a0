/// How a call failed.
public struct TraceFailure: Hashable, Sendable {
  /// A positive errno of Linux; 0 when no call failed.
  public var errno: Int32
  /// An unmap that failed half way: some of the range may be gone.
  public var isPartial: Bool
  /// An unmap that failed and left nothing mapped in the range.
  public var isGone: Bool
  public var detail: String

  public init(errno: Int32, isPartial: Bool = false, isGone: Bool = false, detail: String = "") {
    self.errno = errno
    self.isPartial = isPartial
    self.isGone = isGone
    self.detail = detail
  }
}
