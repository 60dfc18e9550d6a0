/// A settling of held-back pages, or a release of all of them, a few blocks of bits at a time.
///
/// A settling is one pass: what was held and was not found again goes to the log. A release is two:
/// the second finds nothing noted, so it releases what the first one kept. A walk may be given up
/// between two pieces; what it had left is released by the next one.
package struct HeldBackWalk: Sendable {
  struct Place: Sendable {
    /// The first page of the region to go on with.
    var page: UInt64
    var block: Int
  }

  /// Nil: a pass begins.
  var place: Place?
  private var passesLeft: Int

  package init(releasesAll: Bool) { passesLeft = releasesAll ? 2 : 1 }

  package var isDone: Bool { passesLeft == 0 }

  mutating func endPass() {
    passesLeft -= 1
    place = nil
  }
}
