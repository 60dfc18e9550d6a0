public import Addressing

/// One stretch of guest RAM as the tracker was told of it.
public struct TraceRegion: Hashable, Sendable {
  public var name: String
  public var gpa: GPARange
  /// Where the recording process saw it: for people, replay does not touch it.
  public var hvaFirst: HVA?
  public var node: Int?
  public var isReadOnly: Bool

  public init(
    name: String, gpa: GPARange, hvaFirst: HVA? = nil, node: Int? = nil, isReadOnly: Bool = false
  ) {
    self.name = name
    self.gpa = gpa
    self.hvaFirst = hvaFirst
    self.node = node
    self.isReadOnly = isReadOnly
  }
}
