import Addressing
import CSmudge
import DirtyTracker

/// What every function of the library does around its work.
///
/// Unsafe because it follows pointers of a C program. Sound as far as C allows: a null pointer is
/// refused, and one that was a handle once stays readable, see ``TrackerHandle``.
enum Call {
  /// - Parameter waits: the function may wait for a container.
  @inline(__always) static func tracker(
    _ pointer: OpaquePointer?, _ function: StaticString, waits: Bool = true,
    _ body: (TrackerHandle, DirtyTracker) throws(Failure) -> Int32
  ) -> Int32 {
    guard let pointer = unsafe pointer else { return fail(function, nullHandle) }
    if waits, smudge_thread_is_in_callback() != 0 { return fail(function, deadlock) }
    return unsafe inside(TrackerHandle.of(pointer), function, body)
  }

  @inline(__always) static func container(
    _ pointer: OpaquePointer?, _ function: StaticString, waits: Bool = true,
    _ body: (ContainerHandle, DirtyTracker) throws(Failure) -> Int32
  ) -> Int32 {
    guard let pointer = unsafe pointer else { return fail(function, nullHandle) }
    if waits, smudge_thread_is_in_callback() != 0 { return fail(function, deadlock) }
    return part(unsafe ContainerHandle.of(pointer), function, body)
  }

  static func reader(
    _ pointer: OpaquePointer?, _ function: StaticString,
    _ body: (ReaderHandle, DirtyTracker) throws(Failure) -> Int32
  ) -> Int32 {
    guard let pointer = unsafe pointer else { return fail(function, nullHandle) }
    return part(unsafe ReaderHandle.of(pointer), function, body)
  }

  static func sharedLog(
    _ pointer: OpaquePointer?, _ function: StaticString,
    _ body: (SharedLogHandle, DirtyTracker) throws(Failure) -> Int32
  ) -> Int32 {
    guard let pointer = unsafe pointer else { return fail(function, nullHandle) }
    return part(unsafe SharedLogHandle.of(pointer), function, body)
  }

  @inline(__always) private static func part<Part: HandleOfPart>(
    _ handle: Part, _ function: StaticString,
    _ body: (Part, DirtyTracker) throws(Failure) -> Int32
  ) -> Int32 {
    guard !handle.isClosed else { return gone(function) }
    return inside(handle.owner, function) { _, tracker throws(Failure) in
      try body(handle, tracker)
    }
  }

  @inline(__always) private static func inside(
    _ handle: TrackerHandle, _ function: StaticString,
    _ body: (TrackerHandle, DirtyTracker) throws(Failure) -> Int32
  ) -> Int32 {
    guard handle.gate.enter() else { return gone(function) }
    defer { handle.gate.leave() }
    do throws(Failure) {
      return try handle.withTracker { tracker throws(Failure) in try body(handle, tracker) }
    } catch {
      return fail(function, error)
    }
  }

  static let nullHandle = Failure.misuse("the handle is null")
  static let deadlock = Failure(
    SMUDGE_EDEADLK, "it was called from a callback that holds a container; nothing changed")

  static func gone(_ function: StaticString) -> Int32 {
    let failure = Failure(SMUDGE_EBADF, "the handle was destroyed or removed; nothing changed")
    assertionFailure("\(function): \(failure.sentence)")
    return fail(function, failure)
  }

  /// Keeps the sentence for this thread.
  static func fail(_ function: StaticString, _ failure: Failure) -> Int32 {
    var sentence = "\(function): \(failure.sentence)"
    sentence.withUTF8 { bytes in
      unsafe bytes.withMemoryRebound(to: CChar.self) { characters in
        unsafe smudge_thread_set_last_error(characters.baseAddress, characters.count)
      }
    }
    return failure.code
  }
}
