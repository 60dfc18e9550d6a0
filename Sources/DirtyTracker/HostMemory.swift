package import Addressing

/// What of this process's memory lies behind a GPA range.
package enum HostMemory: Hashable, Sendable {
  /// One piece, from this address on.
  case contiguous(HVA)
  /// Nothing: this process does not see it, which is so for a BAR of a device, for one.
  case notVisible
  /// More than one piece, or a piece of only a part.
  case notContiguous

  /// Where the piece begins, when there is one.
  package var hva: HVA? {
    if case .contiguous(let hva) = self { hva } else { nil }
  }
}
