import Addressing
import DMAContainer
import Locking
import PageBitmap

/// A container before whose map and unmap a test does something, what a device does just then, and
/// whose errors may be those of another kind of backend.
final class HookedContainer: DMAContainer {
  private let inner: any DMAContainer
  private let hooks = Mutex(Hooks())
  private let hooked: [HookedLog]

  struct Hooks: Sendable {
    var beforeMap: (@Sendable (MapRequest) -> Void)?
    var beforeUnmap: (@Sendable (IOVARange) -> Void)?
    /// Before and after every call, of the container and of its logs.
    var around: (@Sendable () -> Void)?
    var afterHalfMap: (@Sendable (MapRequest) -> Void)?
    var saysWhatIsGone = true
  }

  init(_ inner: any DMAContainer, _ hooks: Hooks = Hooks()) {
    self.inner = inner
    self.hooks.withLock { $0 = hooks }
    hooked = inner.dirtyLogs.map { HookedLog($0, around: hooks.around) }
  }

  func beforeMap(_ body: @escaping @Sendable (MapRequest) -> Void) {
    hooks.withLock { $0.beforeMap = body }
  }

  func beforeUnmap(_ body: @escaping @Sendable (IOVARange) -> Void) {
    hooks.withLock { $0.beforeUnmap = body }
  }

  /// From now on every map is done, and fails all the same: some of it may be mapped.
  func failMapsHalfway(_ body: @escaping @Sendable (MapRequest) -> Void = { _ in }) {
    hooks.withLock { $0.afterHalfMap = body }
  }

  /// As the kernel: an error number, and nothing more.
  func hideWhatIsGone() { hooks.withLock { $0.saysWhatIsGone = false } }

  func reset() { hooks.withLock { $0 = Hooks() } }

  var name: String { inner.name }
  var capabilities: ContainerCapabilities { inner.capabilities }
  /// Those there were when it was made, where calls of them are hooked.
  var dirtyLogs: [any DirtyLog] {
    hooks.withLock { $0.around == nil } ? inner.dirtyLogs : hooked
  }

  private func around() { hooks.withLock { $0.around }?() }

  func map(_ request: MapRequest) throws(ContainerError) {
    hooks.withLock { $0.beforeMap }?(request)
    around()
    defer { around() }
    try inner.map(request)
    guard let afterHalfMap = hooks.withLock({ $0.afterHalfMap }) else { return }
    afterHalfMap(request)
    throw ContainerError(
      .map, object: name, range: request.iova, errno: ContainerErrno.eio, isPartial: true)
  }

  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    hooks.withLock { $0.beforeUnmap }?(range)
    around()
    defer { around() }
    do throws(ContainerError) {
      return try inner.unmap(range)
    } catch {
      if hooks.withLock({ $0.saysWhatIsGone }) { throw error }
      throw ContainerError(
        .unmap, object: name, range: range, errno: error.errno, isPartial: error.isPartial)
    }
  }

  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    if let window = dirty.window { hooks.withLock { $0.beforeUnmap }?(window) }
    around()
    defer { around() }
    return try inner.unmap(reportingInto: &dirty)
  }
}

/// A log before and after whose calls a test does something.
final class HookedLog: DirtyLog {
  private let inner: any DirtyLog
  private let hook: (@Sendable () -> Void)?

  init(_ inner: any DirtyLog, around hook: (@Sendable () -> Void)?) {
    self.inner = inner
    self.hook = hook
  }

  var name: String { inner.name }
  var capabilities: DirtyLogCapabilities { inner.capabilities }

  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    hook?()
    defer { hook?() }
    try inner.start(logging: ranges, pageSize: pageSize)
  }

  func stop() throws(ContainerError) {
    hook?()
    defer { hook?() }
    try inner.stop()
  }

  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    hook?()
    defer { hook?() }
    try inner.query(&bitmap, clear: clear)
  }
}
