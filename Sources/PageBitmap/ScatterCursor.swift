import Addressing

/// What a scatter did.
public struct ScatterCount: Hashable, Sendable {
  /// Set bits of the query that reached the target.
  public var dirtyPages: UInt64 = 0
  /// Of the target's pages, those that were clean before.
  public var newlyDirtyPages: UInt64 = 0
  public init() {}
}

/// Where a scatter stands: mappings below `mappingNext` and pages below `pageNext` are done with.
struct ScatterCursor {
  let gpaFirst: GPA
  let window: IOVARange
  let pageSize: PageSize
  var mappingNext = 0
  var pageNext: UInt64 = 0
  var count = ScatterCount()
}

enum ScatterStop {
  case done
  /// The mapping at the cursor is not made of whole pages or leaves the target.
  case callerMust
}
