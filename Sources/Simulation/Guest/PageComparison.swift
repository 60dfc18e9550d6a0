public import Addressing

/// The verdict over two guests' memory.
public struct PageComparison: Hashable, Sendable {
  /// Pages of 4 KiB that both have.
  public let comparedCount: UInt64
  /// Pages of which only one guest has any: the two are not of one size.
  public let unmatchedCount: UInt64
  /// The first byte of each page that differs, in GPA order.
  public let different: [GPA]

  public var isEqual: Bool { different.isEmpty && unmatchedCount == 0 }

  /// Both by page number of `layout`.
  public init(layout: GuestLayout, ours: [UInt64], theirs: [UInt64]) {
    let common = min(ours.count, theirs.count, Int(layout.pageCount))
    comparedCount = UInt64(common)
    unmatchedCount = UInt64(max(ours.count, theirs.count, Int(layout.pageCount)) - common)
    var different: [GPA] = []
    for page in 0..<common where ours[page] != theirs[page] {
      different.append(layout.gpa(ofPage: UInt64(page)))
    }
    self.different = different
  }
}
