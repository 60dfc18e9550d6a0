public import Addressing
public import PageBitmap
import Locking

/// Held-back pages. Pinned pages are dirty in every round as far as anybody knows; sending them in
/// every round is in vain. What a query of pinned pages finds is held back, round by round; a page
/// that was held and is not found again goes to the log; stop-and-copy releases the rest.
extension GuestDirtyLog {
  /// Notes pages behind the set bits as held by the container from the next settling on.
  /// - Returns: the bits that reached RAM, and pages outside of it. None of them is newly dirty.
  @discardableResult
  public func holdBack(
    _ query: borrowing QueryBitmap, through mappings: Span<Mapping>, for container: ContainerID,
    mappingsLead: Bool = false
  ) -> MarkCount {
    spread(query, mappings, into: .heldBack(container), mappingsLead: mappingsLead)
  }

  /// Pages held until now and not noted since the last settling go to the log; those noted are
  /// held from now on.
  public func settleHeldBack(for container: ContainerID, by source: DirtySource) -> MarkCount {
    structure.withLock { _ in settle(container, source) }
  }

  /// All pages held or noted go to the log.
  public func releaseHeldBack(for container: ContainerID, by source: DirtySource) -> MarkCount {
    structure.withLock { _ in
      // The second settling finds nothing noted, so it releases what the first one kept.
      var count = settle(container, source)
      count += settle(container, source)
      return count
    }
  }

  /// Forgets what is held and noted; it is not marked.
  public func dropHeldBack(for container: ContainerID) {
    structure.withLock { _ in
      for region in directory.withLock({ $0.regions }) {
        region.withState { $0.dropHeld(container) }
      }
    }
  }

  /// Pages held by any container, each once.
  public var heldBackPageCount: UInt64 {
    directory.withLock { $0.regions }.reduce(0) { $0 &+ $1.withState { $0.heldCount } }
  }

  private func settle(_ container: ContainerID, _ source: DirtySource) -> MarkCount {
    onNodes(directory.withLock { $0.regions }) { region in
      region.withState { $0.settle(container) }
      let total = region.forEachHold { state, blocks in
        state.release(container, blocks: blocks, by: source)
      }
      region.withState { $0.finishRelease(container) }
      return total
    }
  }
}
