import Addressing
import IOVAMapping

/// What a cut says, page by page from the list of mappings.
struct NaiveCut: Equatable {
  var hull: IOVARange
  var uncut: IOVARange
  var onlyMapping: Mapping?
  var left: Mapping?
  var right: Mapping?
  var added: Int
  var isRefused: Bool
}

extension NaiveCut {
  init(_ cut: MappingCut) {
    self.init(
      hull: cut.hull, uncut: cut.uncut, onlyMapping: cut.onlyMapping, left: cut.left,
      right: cut.right, added: cut.addedMappingCount, isRefused: cut.refusal != nil)
  }
}

extension NaiveTable {
  /// Nil when nothing is mapped in the range.
  func cut(_ range: IOVARange, mappingCountMax: Int = .max) -> NaiveCut? {
    let hit = mappings.filter { $0.iova.overlaps(range) }
    guard let first = hit.first, let last = hit.last else { return nil }
    var after = self
    let isDone = after.unmap(range, mappingCountMax: mappingCountMax) != nil
    // What stays, asked of a table that may be cut.
    var split = NaiveTable(policy: .split, mappings: hit, generation: generation)
    _ = split.unmap(range)
    return NaiveCut(
      hull: AddressRange(
        first: max(first.iova.first, range.first), last: min(last.iova.last, range.last)),
      uncut: AddressRange(first: first.iova.first, last: last.iova.last),
      onlyMapping: hit.count == 1 && split.mappings.isEmpty ? first : nil,
      left: split.mappings.first { $0.iova.last < range.first },
      right: split.mappings.first { $0.iova.first > range.last },
      added: max(0, split.mappings.count - hit.count), isRefused: !isDone)
  }

  /// Nil when refused, also for want of room.
  mutating func unmap(_ range: IOVARange, mappingCountMax: Int) -> [Mapping]? {
    var after = self
    guard let removed = after.unmap(range),
      after.mappings.count <= max(mappings.count, mappingCountMax)
    else { return nil }
    self = after
    return removed
  }

  /// The mappings of a long unmap, in pieces: those made by `generation`, at most `countMax` at a
  /// time, apart where younger ones lie between them.
  func pieces(_ range: IOVARange, countMax: Int, notAfter generation: Generation) -> [[Mapping]] {
    var pieces: [[Mapping]] = [[]]
    var seen = 0
    for mapping in mappings where mapping.iova.overlaps(range) {
      let isYounger = mapping.generation > generation
      if !isYounger { pieces[pieces.count - 1].append(mapping) }
      seen += 1
      if seen == countMax || (isYounger && !pieces[pieces.count - 1].isEmpty) {
        pieces.append([])
        seen = 0
      }
    }
    return pieces.filter { !$0.isEmpty }
  }
}
