public import IOVAMapping

/// How a generated guest uses its IOMMU.
public enum IOMMUBehaviour: String, CaseIterable, Hashable, Sendable {
  /// Map, use, unmap at once and exactly: Linux with `iommu.strict=1`.
  case strict
  /// Unmaps are gathered; one invalidation of a whole power-of-two window then covers many
  /// mappings, holes between them, and sometimes nothing any more.
  case lazy
  /// Many single pages at once, all gone again at once, with unmaps of what was never mapped and
  /// now and then of the whole space.
  case storm
  /// A live IOVA gets another page: the unmap and the map that VT-d's emulation makes of it.
  case remap
  /// The same without the unmap: only a listener that replaces what is mapped can take it.
  case remapInPlace
  /// Many IOVAs for few pages.
  case alias
  /// Unmaps of a part of a mapping: only a table that splits can take it.
  case bisect
  /// Strict, with turns of pass-through.
  case passThrough
  /// All that every table accepts, one after another.
  case mixed

  /// Whether a table of this policy accepts every event of such a stream.
  public func isAccepted(by policy: BisectPolicy) -> Bool {
    switch self {
    case .strict, .lazy, .storm, .remap, .alias, .passThrough, .mixed: true
    case .bisect: policy == .split
    case .remapInPlace: false
    }
  }
}
