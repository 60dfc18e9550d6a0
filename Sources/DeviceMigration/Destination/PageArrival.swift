import Addressing
import GuestDirtyLog
import PageBitmap

/// Which pages of RAM came at least once. A guest must not run on memory that nobody sent: what is
/// missing would read as zeroes, and no checksum would show it.
///
/// One bit a page of the stream, 32 MiB for a TiB.
final class PageArrival {
  private let regions: [RegionPages]

  private final class RegionPages {
    let region: RAMRegion
    var pages: PageBitmap

    init(_ region: RAMRegion) throws(PageBitmapError) {
      self.region = region
      pages = try PageBitmap(pageCount: region.gpa.pageCount(.fourKiB))
    }
  }

  init(_ regions: [RAMRegion]) throws(PageBitmapError) {
    var all: [RegionPages] = []
    for region in regions { all.append(try RegionPages(region)) }
    self.regions = all
  }

  /// - Precondition: `range` is whole pages of one region.
  func came(_ range: GPARange) {
    guard let own = regions.first(where: { $0.region.gpa.contains(range) }) else {
      preconditionFailure("pages outside RAM")
    }
    let first = range.first.rawValue &- own.region.gpa.first.rawValue
    _ = own.pages.insert(first: first >> 12, last: (first &+ range.lastOffset) >> 12)
  }

  /// A clause about what has not come; nil when everything has.
  var missing: String? {
    var count: UInt64 = 0
    var parts: [String] = []
    for own in regions {
      let lacking = own.pages.pageCount - own.pages.dirtyCount
      guard lacking > 0 else { continue }
      count += lacking
      var page: UInt64 = 0
      while let run = own.pages.nextRun(from: page), run.first == page { page = run.last + 1 }
      let gpa = GPA(own.region.gpa.first.rawValue &+ page << 12)
      parts.append("\(lacking) pages of RAM \(own.region.name), the first at GPA \(gpa)")
    }
    return count == 0 ? nil : "\(PeerText.list(parts)) never came"
  }
}
