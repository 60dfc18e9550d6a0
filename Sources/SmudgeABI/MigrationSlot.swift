import CSmudge
import DeviceMigration
import Locking

/// The one migration of a tracker that is under way, or of which nobody knows how it ended.
///
///     free ──take──> taken ──put(nil)──> free
///                      └─put(unresolved)─> unresolved ─takeUnresolved─> taken
final class MigrationSlot: Sendable {
  /// A migration is driven by one thread at a time: whoever has taken the slot.
  struct Unresolved: @unchecked Sendable {
    let source: MigrationSource
  }

  private enum State {
    case free
    case taken
    case unresolved(Unresolved)
  }

  private let state = Locking.Mutex(State.free)

  /// - Throws: when there is one already.
  func take() throws(Failure) {
    try state.withLock { (state) throws(Failure) in
      guard case .free = state else {
        throw Failure(SMUDGE_EBUSY, "a migration is under way or unresolved; nothing changed")
      }
      state = .taken
    }
  }

  func put(_ unresolved: Unresolved?) {
    state.withLock { $0 = unresolved.map { .unresolved($0) } ?? .free }
  }

  func takeUnresolved() -> Unresolved? {
    state.withLock { state in
      guard case .unresolved(let found) = state else { return nil }
      state = .taken
      return found
    }
  }
}
