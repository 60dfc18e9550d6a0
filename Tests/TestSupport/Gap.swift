import Locking

/// Calls a step in one gap: between two pieces of something long, what another thread might do. The
/// step may pass gaps itself.
public final class Gap: Sendable {
  private let wanted: Int
  private let state = Mutex<(seen: Int, step: (@Sendable () -> Void)?)>((0, nil))

  /// - Parameter wanted: which gap, from 0.
  public init(_ wanted: Int) { self.wanted = wanted }

  public func arm(_ step: @escaping @Sendable () -> Void) { state.withLock { $0 = (0, step) } }

  /// - Returns: whether the gap was there.
  public func disarm() -> Bool {
    state.withLock { state in
      state.step = nil
      return state.seen > wanted
    }
  }

  public func pass() {
    let step = state.withLock { state -> (@Sendable () -> Void)? in
      guard state.step != nil else { return nil }
      state.seen += 1
      return state.seen == wanted + 1 ? state.step : nil
    }
    step?()
  }
}
