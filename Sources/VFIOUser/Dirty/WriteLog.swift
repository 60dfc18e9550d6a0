public import Addressing
public import DMAContainer
import Locking
public import PageBitmap

/// A dirty log for a device server whose device says itself what it wrote: exact, by IOVA, of 4 KiB
/// pages, whether they are still mapped or not.
///
///     off ── start ──> logging ── stop ──> off        what was not read is lost by stop
public final class WriteLog: DirtyLog {
  private struct State: Sendable {
    var isStarted = false
    /// Empty: all of the space.
    var ranges: [IOVARange] = []
    var dirty = SparseDirtyPages()
  }

  public let name: String
  private let state = Mutex(State())

  public init(name: String) { self.name = name }

  public var capabilities: DirtyLogCapabilities {
    DirtyLogCapabilities(
      scope: .deviceLog, pageSizes: PageSizeSet(mask: ~0xfff), mayCrossHoles: true,
      mayCutMapping: true, canPeek: false, granule: .page, isAskedAfterUnmap: true)
  }

  public func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    let isFirst = state.withLock { state in
      if state.isStarted { return false }
      state = State(isStarted: true, ranges: ranges)
      return true
    }
    guard isFirst else {
      throw ContainerError(
        .startLog, object: name, errno: ContainerErrno.einval, detail: "it is started already")
    }
  }

  public func stop() throws(ContainerError) { state.withLock { $0 = State() } }

  public func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    precondition(clear, "a device log reads and clears in one")
    guard let window = bitmap.window else { return }
    let isStarted = state.withLock { state in
      if state.isStarted { state.dirty.take(window, into: &bitmap) }
      return state.isStarted
    }
    guard isStarted else {
      throw ContainerError(
        .query, object: name, range: window, errno: ContainerErrno.einval,
        detail: "it is not started")
    }
  }

  /// The device wrote `range`. Called after the write, before anybody may rely on it.
  public func record(_ range: IOVARange) {
    state.withLock { state in
      guard state.isStarted else { return }
      guard !state.ranges.isEmpty else { return state.dirty.insert(range) }
      for logged in state.ranges {
        if let part = logged.intersection(range) { state.dirty.insert(part) }
      }
    }
  }
}
