public import Addressing
public import PageBitmap

/// One I/O address space with its devices, as the tracker commands it: a type1 container, an
/// iommufd IOAS with its HWPTs, a vfio-user connection, or a simulation of one.
///
/// Terms:
/// - **Dirty log**: one way of knowing what a device wrote. A container has one for each HWPT and
///   for each device that logs by itself, and one of scope `everythingMapped` for devices that have
///   nothing: what the container's devices wrote is the union of all its logs.
/// - **Window**: the IOVA range of one query.
///
/// Invariants a backend keeps:
/// 1. `map` and `unmap` apply wholly or throw. After an error whose `isGone` is true nothing is
///    mapped in the range; another one whose `isPartial` is false changed
///    nothing.
/// 2. A query sets bits and clears none; where it fails, whatever it has set may stay.
/// 3. What a query with `clear` took from the log and did not report, because it failed, is lost to
///    the backend: the caller marks the window dirty.
///
/// The tracker calls a container from one thread at a time. Calls may block in the kernel.
public protocol DMAContainer: AnyObject, Sendable {
  var name: String { get }
  var capabilities: ContainerCapabilities { get }
  /// Never empty for a container with a device. Asked again after every attach.
  var dirtyLogs: [any DirtyLog] { get }

  func map(_ request: MapRequest) throws(ContainerError)

  /// Removes what is mapped in `range`.
  /// - Returns: bytes unmapped, 0 when nothing was there.
  @discardableResult
  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64

  /// Removes what is mapped in the window of `dirty`, which holds the union of what the container's
  /// own logs knew of it afterwards; logs asked after the unmap are not part of it.
  /// - Precondition: `capabilities.hasAtomicUnmap`, and a log of the container is started.
  @discardableResult
  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64
}

/// One way in which a container knows what its devices wrote.
///
/// States:
///
///               start                 query: what it reported with `clear` is clean
///     stopped --------> logging ------.
///        ^                |  ^--------'
///        '------stop------'      unread dirt is lost
public protocol DirtyLog: AnyObject, Sendable {
  var name: String { get }
  var capabilities: DirtyLogCapabilities { get }

  /// Starts from clean. A second start of a started log is refused or does nothing.
  /// - Parameter ranges: what to log, where `rangeCountMax` is stated: sorted, not overlapping, of
  ///   whole pages. Empty otherwise.
  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError)

  /// Unread dirt is lost.
  func stop() throws(ContainerError)

  /// ORs the dirty pages of the bitmap's window into it.
  /// - Parameter clear: take them out of the log. False only where `canPeek`.
  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError)
}
