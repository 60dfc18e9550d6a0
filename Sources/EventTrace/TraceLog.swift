public import Addressing

/// A dirty log of a container, with what it allows of its queries.
public struct TraceLog: Hashable, Sendable {
  public var name: String
  /// The raw value of its dirty scope.
  public var scope: UInt8
  public var pageSizes: PageSizeSet
  public var queryBitmapByteCountMax: UInt64
  public var mayCrossHoles: Bool
  public var mayCutMapping: Bool
  public var canPeek: Bool
  public var rangeCountMax: Int?
  public var isAskedAfterUnmap: Bool

  public init(
    name: String, scope: UInt8, pageSizes: PageSizeSet = PageSizeSet(.fourKiB),
    queryBitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax, mayCrossHoles: Bool = false,
    mayCutMapping: Bool = false, canPeek: Bool = false, rangeCountMax: Int? = nil,
    isAskedAfterUnmap: Bool = false
  ) {
    self.name = name
    self.scope = scope
    self.pageSizes = pageSizes
    self.queryBitmapByteCountMax = queryBitmapByteCountMax
    self.mayCrossHoles = mayCrossHoles
    self.mayCutMapping = mayCutMapping
    self.canPeek = canPeek
    self.rangeCountMax = rangeCountMax
    self.isAskedAfterUnmap = isAskedAfterUnmap
  }
}
