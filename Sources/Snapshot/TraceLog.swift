public import Addressing

/// A dirty log of a container, with what it allows of its queries.
public struct TraceLog: Hashable, Sendable {
  public var name: String
  /// Tells a log of its container from every other the container has had, also of the same name.
  public var identity: UInt64
  /// The raw value of its dirty scope.
  public var scope: UInt8
  public var pageSizes: PageSizeSet
  public var queryBitmapByteCountMax: UInt64
  public var mayCrossHoles: Bool
  public var mayCutMapping: Bool
  public var canPeek: Bool
  public var rangeCountMax: Int?
  public var isAskedAfterUnmap: Bool
  /// Pages the log reads and clears together, a power of two, and how large they are at least.
  public var granulePageCount: UInt64
  public var granulePageSize: PageSize

  public init(
    name: String, identity: UInt64 = 0, scope: UInt8,
    pageSizes: PageSizeSet = PageSizeSet(.fourKiB),
    queryBitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax, mayCrossHoles: Bool = false,
    mayCutMapping: Bool = false, canPeek: Bool = false, rangeCountMax: Int? = nil,
    isAskedAfterUnmap: Bool = false, granulePageCount: UInt64 = 1,
    granulePageSize: PageSize = .fourKiB
  ) {
    self.name = name
    self.identity = identity
    self.scope = scope
    self.pageSizes = pageSizes
    self.queryBitmapByteCountMax = queryBitmapByteCountMax
    self.mayCrossHoles = mayCrossHoles
    self.mayCutMapping = mayCutMapping
    self.canPeek = canPeek
    self.rangeCountMax = rangeCountMax
    self.isAskedAfterUnmap = isAskedAfterUnmap
    self.granulePageCount = granulePageCount
    self.granulePageSize = granulePageSize
  }
}
