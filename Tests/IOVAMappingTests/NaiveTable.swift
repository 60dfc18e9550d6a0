import Addressing
import IOVAMapping

/// The table as a list of mappings: slow, and plain enough to be believed.
struct NaiveTable {
  let policy: BisectPolicy
  var mappings: [Mapping] = []
  var generation: UInt64 = 0

  mutating func map(_ iova: IOVARange, to gpa: GPA, permissions: Permissions) -> Bool {
    guard !mappings.contains(where: { $0.iova.overlaps(iova) }) else { return false }
    generation += 1
    mappings.append(
      Mapping(
        iova: iova, gpaFirst: gpa, permissions: permissions, generation: Generation(generation)))
    mappings.sort { $0.iova.first < $1.iova.first }
    return true
  }

  /// Nil when refused.
  mutating func unmap(_ range: IOVARange) -> [Mapping]? {
    let hit = mappings.filter { $0.iova.overlaps(range) }
    if policy == .refuse, hit.contains(where: { !range.contains($0.iova) }) { return nil }
    if hit.isEmpty { return [] }
    generation += 1
    var kept = mappings.filter { !$0.iova.overlaps(range) }
    for mapping in hit {
      if mapping.iova.first < range.first {
        kept.append(
          mapping.clipped(
            to: AddressRange(first: mapping.iova.first, last: IOVA(range.first.rawValue - 1)))!)
      }
      if mapping.iova.last > range.last {
        kept.append(
          mapping.clipped(
            to: AddressRange(first: IOVA(range.last.rawValue + 1), last: mapping.iova.last))!)
      }
    }
    mappings = kept.sorted { $0.iova.first < $1.iova.first }
    return hit.map { $0.clipped(to: range)! }
  }
}
