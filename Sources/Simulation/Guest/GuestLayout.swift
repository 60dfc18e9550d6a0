public import Addressing

/// Where the RAM of a simulated guest lies: below the hole under 4 GiB, and above it, as on x86.
///
/// Above the hole a GPA is not the offset into the guest's memory, so that code which takes one for
/// the other shows.
///
/// Terms:
/// - **page number**: pages of 4 KiB counted through all regions in GPA order, without the hole.
public struct GuestLayout: Hashable, Sendable {
  /// One stretch of RAM.
  public struct Region: Hashable, Sendable {
    public let name: String
    public let gpa: GPARange
    /// The NUMA node to place it on; nil when that does not matter.
    public let node: Int?
    /// Its first page number; 4096 times that is its offset into the guest's memory.
    public let firstPage: UInt64
    public let pageCount: UInt64

    public var endPage: UInt64 { firstPage &+ pageCount }
  }

  /// Where RAM goes on above the hole.
  public static let aboveHole = GPA(1 << 32)

  /// In GPA order.
  public let regions: [Region]
  public let pageCount: UInt64

  public var byteCount: UInt64 { pageCount &* 4096 }

  /// - Parameters:
  ///   - byteCount: all RAM together, in whole pages of 4 KiB, two at least.
  ///   - lowByteCountMax: the most of it below the hole. Half at most lies there, so that every
  ///     guest, however small, has RAM on both sides.
  ///   - nodes: the first gets the RAM below the hole, the others share what is above; a single one
  ///     gets all. Empty: placed anywhere.
  /// - Precondition: whole pages, at most 2^46 bytes, and a page for each node.
  public init(byteCount: UInt64, lowByteCountMax: UInt64 = 2 << 30, nodes: [Int] = []) {
    precondition(byteCount % 4096 == 0 && byteCount >= 8192, "RAM is two whole pages or more")
    precondition(byteCount <= 1 << 46 && lowByteCountMax <= 1 << 31, "RAM beyond what x86 has")
    let low = min(byteCount / 8192 * 4096, max(lowByteCountMax / 4096 * 4096, 4096))
    var parts: [(name: String, first: GPA, pageCount: UInt64, node: Int?)] = [
      ("ram-below-4g", GPA(0), low / 4096, nodes.first)
    ]
    let highNodes: [Int?] = nodes.isEmpty ? [nil] : nodes.count == 1 ? nodes : Array(nodes[1...])
    var rest = (byteCount &- low) / 4096
    precondition(UInt64(highNodes.count) <= rest, "every node needs a page")
    var first = Self.aboveHole.rawValue
    for (index, node) in highNodes.enumerated() {
      let share = rest / UInt64(highNodes.count - index)
      let name = highNodes.count == 1 ? "ram-above-4g" : "ram-above-4g-\(index)"
      parts.append((name, GPA(first), share, node))
      first &+= share &* 4096
      rest &-= share
    }
    self.init(parts)
  }

  private init(_ parts: [(name: String, first: GPA, pageCount: UInt64, node: Int?)]) {
    var regions: [Region] = []
    var pages: UInt64 = 0
    for part in parts {
      guard let gpa = GPARange(first: part.first, byteCount: part.pageCount &* 4096) else {
        preconditionFailure("a region of RAM runs past 2^64-1")
      }
      regions.append(
        Region(
          name: part.name, gpa: gpa, node: part.node, firstPage: pages, pageCount: part.pageCount))
      pages &+= part.pageCount
    }
    self.regions = regions
    self.pageCount = pages
  }

  /// The region all of `range` lies in.
  public func region(holding range: GPARange) -> Region? {
    for region in regions where region.gpa.contains(range) { return region }
    return nil
  }

  /// - Precondition: `page < pageCount`.
  public func region(ofPage page: UInt64) -> Region {
    precondition(page < pageCount, "a page past the guest's RAM")
    for region in regions where page < region.endPage { return region }
    preconditionFailure("the regions hold every page")
  }

  /// The page number of the page `gpa` lies in; nil outside RAM.
  public func page(of gpa: GPA) -> UInt64? {
    for region in regions where region.gpa.contains(gpa) {
      return region.firstPage &+ (gpa.rawValue &- region.gpa.first.rawValue) / 4096
    }
    return nil
  }

  /// The first byte of a page.
  /// - Precondition: `page < pageCount`.
  public func gpa(ofPage page: UInt64) -> GPA {
    let region = region(ofPage: page)
    return GPA(region.gpa.first.rawValue &+ (page &- region.firstPage) &* 4096)
  }

  /// Offset of `range` into the guest's memory; nil where it does not lie in one region.
  func offset(of range: GPARange) -> UInt64? {
    guard let region = region(holding: range) else { return nil }
    return region.firstPage &* 4096 &+ (range.first.rawValue &- region.gpa.first.rawValue)
  }
}
