public import Addressing

/// What a search that reads at most so many mappings has found.
public enum BoundedSearch: Hashable, Sendable {
  /// The IOVA of a whole mapping.
  case found(IOVARange)
  case nothing
  /// Everything between the beginning of the search and this address was read, this included.
  case gaveUp(at: IOVA)
}
