import Addressing
import CSmudge
import DirtyTracker
import GuestDirtyLog
import Locking
import PageBitmap
import Synchronization

/// The objects behind the opaque pointers of smudge.h.
///
/// Unsafe because a C program keeps their addresses and may use them after it destroyed them. Sound
/// because these few bytes are never freed: a pointer that was valid once stays one, and the gate
/// says whether what it stood for is still there. What is large goes: the tracker when the gate
/// closes, which it does only while no call is inside, and what a part has beside its handle when
/// the part is removed, or with the tracker.
@safe final class TrackerHandle: Sendable {
  let gate = CallGate()
  private let tracker: Unmanaged<DirtyTracker>
  let sharedLogs = Locking.Mutex<[SharedLogHandle]>([])
  let migration = MigrationSlot()
  private let parts = Locking.Mutex<[ObjectIdentifier: any HandleOfPart]>([:])

  init(_ tracker: DirtyTracker) { unsafe self.tracker = Unmanaged.passRetained(tracker) }

  /// Inside the gate.
  @inline(__always) func withTracker<R>(
    _ body: (DirtyTracker) throws(Failure) -> R
  ) throws(Failure) -> R {
    let tracker = unsafe self.tracker.takeUnretainedValue()
    return try body(tracker)
  }

  /// After the gate has closed.
  func release() {
    sharedLogs.withLock { $0 = [] }
    let left = parts.withLock { parts in
      defer { parts = [:] }
      return parts
    }
    for part in left.values { part.letGo() }
    migration.put(nil)
    unsafe tracker.release()
  }

  fileprivate func keep(_ part: any HandleOfPart) {
    parts.withLock { $0[ObjectIdentifier(part)] = part }
  }

  fileprivate func drop(_ part: any HandleOfPart) {
    parts.withLock { $0[ObjectIdentifier(part)] = nil }
    part.letGo()
  }

  var opaque: OpaquePointer { unsafe immortal(self) }

  @inline(__always) @unsafe static func of(_ pointer: OpaquePointer) -> TrackerHandle {
    unsafe Unmanaged<TrackerHandle>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
  }
}

/// A container, a reader, a shared log of a tracker.
protocol HandleOfPart: AnyObject, Sendable {
  var owner: TrackerHandle { get }
  /// It was removed: later calls are refused.
  var isClosed: Bool { get }
  func markClosed()
  /// Frees what it has beside itself. Calls may still be inside.
  func letGo()
}

extension HandleOfPart {
  /// Inside the gate. What the handle stands for may be removed before or after.
  func close() {
    markClosed()
    owner.drop(self)
  }
}

@safe final class ContainerHandle: HandleOfPart {
  let owner: TrackerHandle
  let id: ContainerID
  let isOwnedByVMM: Bool
  private let closed = Atomic(false)
  /// For a bitmap that the VMM hands over. Nil before the first one, and when the handle is closed.
  let scratch = Locking.Mutex<QueryBitmap?>(nil)

  init(_ owner: TrackerHandle, _ id: ContainerID, isOwnedByVMM: Bool) {
    self.owner = owner
    self.id = id
    self.isOwnedByVMM = isOwnedByVMM
    owner.keep(self)
  }

  var isClosed: Bool { closed.load(ordering: .relaxed) }
  func markClosed() { closed.store(true, ordering: .relaxed) }

  func letGo() { scratch.withLock { $0 = nil } }

  var opaque: OpaquePointer { unsafe immortal(self) }

  @inline(__always) @unsafe static func of(_ pointer: OpaquePointer) -> ContainerHandle {
    unsafe Unmanaged<ContainerHandle>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
  }
}

@safe final class ReaderHandle: HandleOfPart {
  let owner: TrackerHandle
  let consumer: ConsumerID
  private let closed = Atomic(false)
  /// By number. As many as the log keeps; the log puts back the oldest past its limit.
  let inFlight = Locking.Mutex<[UInt64: Harvest]>([:])

  init(_ owner: TrackerHandle, _ consumer: ConsumerID) {
    self.owner = owner
    self.consumer = consumer
    owner.keep(self)
  }

  var isClosed: Bool { closed.load(ordering: .relaxed) }
  func markClosed() { closed.store(true, ordering: .relaxed) }

  func letGo() { inFlight.withLock { $0 = [:] } }

  var opaque: OpaquePointer { unsafe immortal(self) }

  static func of(_ pointer: OpaquePointer) -> ReaderHandle {
    unsafe Unmanaged<ReaderHandle>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
  }
}

@safe final class SharedLogHandle: HandleOfPart {
  let owner: TrackerHandle
  let consumer: ConsumerID
  /// Nil when the handle is closed.
  let memory: Locking.Mutex<SharedBits?>
  private let closed = Atomic(false)

  init(_ owner: TrackerHandle, _ consumer: ConsumerID, _ memory: SharedBits) {
    self.owner = owner
    self.consumer = consumer
    self.memory = Locking.Mutex(memory)
    owner.keep(self)
  }

  var isClosed: Bool { closed.load(ordering: .relaxed) }
  func markClosed() { closed.store(true, ordering: .relaxed) }

  /// Who publishes holds the memory until it is done.
  func letGo() { memory.withLock { $0 = nil } }

  var opaque: OpaquePointer { unsafe immortal(self) }

  static func of(_ pointer: OpaquePointer) -> SharedLogHandle {
    unsafe Unmanaged<SharedLogHandle>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
  }
}

/// What is never freed. Kept where whoever looks for leaks finds that it is kept.
private let kept = Locking.Mutex<[any AnyObject & Sendable]>([])

/// The address of an object that is never freed.
private func immortal(_ object: any AnyObject & Sendable) -> OpaquePointer {
  kept.withLock { $0.append(object) }
  return unsafe OpaquePointer(Unmanaged.passUnretained(object).toOpaque())
}
