import Addressing

/// The tracker as one would write it on a napkin: a dictionary of pages, and those written.
struct NaiveTracker {
  struct Target: Hashable {
    var gpaPage: UInt64
    var permissions: Permissions
  }

  /// By IOVA page.
  var mapped: [UInt64: Target] = [:]
  /// Written since the last harvest that took them.
  var written: Set<UInt64> = []
  var everWritable: Set<UInt64> = []

  /// The backend has said that it stopped half way: it may lack what the table holds.
  var backendMayLack = false
  /// The first promise of a refusal that was not held.
  var problem: String?

  mutating func wrote(_ gpaPage: UInt64) { written.insert(gpaPage) }
  mutating func harvested(_ pages: Set<UInt64>) { written.subtract(pages) }

  /// What differs from the mappings of a tracker.
  func difference(_ mappings: [Mapping]) -> String? {
    var found: [UInt64: Target] = [:]
    for mapping in mappings {
      let first = mapping.iova.first.rawValue >> 12
      for offset in 0..<mapping.iova.pageCount(.fourKiB) {
        found[first + offset] = Target(
          gpaPage: mapping.gpaFirst.rawValue >> 12 + offset, permissions: mapping.permissions)
      }
    }
    return found == mapped ? nil : "mapped \(mapped), the tracker has \(found)"
  }
}
