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

  mutating func map(
    _ page: UInt64, _ count: UInt64, to gpa: UInt64, _ permissions: Permissions, _ isDone: Bool
  ) {
    guard isDone else { return }
    for offset in 0..<count {
      mapped[page + offset] = Target(gpaPage: gpa + offset, permissions: permissions)
      if permissions.contains(.write) { everWritable.insert(gpa + offset) }
    }
  }

  mutating func unmap(_ page: UInt64, _ count: UInt64, _ isDone: Bool) {
    guard isDone else { return }
    for offset in 0..<count { mapped[page + offset] = nil }
  }

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
