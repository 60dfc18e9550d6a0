package import Addressing

/// What a scatter did.
public struct ScatterCount: Hashable, Sendable {
  /// Set bits of the query that reached the target.
  public var dirtyPages: UInt64 = 0
  /// Of the target's pages, those that were clean before.
  public var newlyDirtyPages: UInt64 = 0
  public init() {}
}

/// Where a scatter stands: mappings below `mappingNext` and pages below `pageNext` are done with.
package struct ScatterCursor {
  package var gpaFirst: GPA
  package let window: IOVARange
  package let pageSize: PageSize
  package var mappingNext = 0
  package var pageNext: UInt64 = 0
  /// Pages from here on are left for later; at most the pages of the window.
  package var pageEnd: UInt64
  package var count = ScatterCount()
  /// Whether most mappings have a dirty page: then they lead, and not the bits.
  package let mappingsLead: Bool

  package init(
    gpaFirst: GPA, window: IOVARange, pageSize: PageSize, mappingsLead: Bool = false
  ) {
    self.mappingsLead = mappingsLead
    self.gpaFirst = gpaFirst
    self.window = window
    self.pageSize = pageSize
    self.pageEnd = window.pageCount(pageSize)
  }

  /// Leaves the mapping behind. The page it ends in may be the next one's first.
  package mutating func pass(_ mapping: Mapping) {
    mappingNext &+= 1
    guard mapping.iova.last < window.last else {
      pageNext = max(pageNext, window.pageCount(pageSize))
      return
    }
    guard mapping.iova.last >= window.first else { return }
    let offset = mapping.iova.last.rawValue &+ 1 &- window.first.rawValue
    pageNext = max(pageNext, offset &>> pageSize.shift)
  }
}

package enum ScatterStop {
  case done
  /// The mapping at the cursor is not made of whole pages.
  case unaligned
  /// The mapping at the cursor leaves the target.
  case outside
}
