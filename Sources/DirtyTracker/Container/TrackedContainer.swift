import Addressing
import DMAContainer
import GuestDirtyLog
import IOVAMapping
import Locking
import PageBitmap

/// One container, as the tracker keeps it.
///
/// Terms:
/// - **Operation**: one map, one unmap, or one step of a course.
/// - **Course**: a long piece of work made of steps: start, sync, stop, see ``ContainerCourse``.
/// - **Step**: one call to the backend with the scatter of its answer, or one bounded piece of a
///   walk.
///
/// Locks, taken in this order and never the other way round:
/// 1. `courses`: one course at a time. A second sync, a start, an attachment and a switch of the
///    address space wait for it. A stop and a removal take the course away first.
/// 2. `operation`: one operation at a time, held across its calls to the backend, as the kernel's
///    own container lock is. So a query and the scatter of its answer see the same mappings, and
///    dirt is never credited to a mapping made later. Between two steps those who wait go first.
/// 3. `book`: the table and what questions read, held for one step of the table. Only a holder of
///    `operation` changes it; questions and `deviceWrote` take it alone and wait for no backend.
/// 4. The log's own.
///
/// States of each of its dirty logs:
///
///                  start               restart: all of IOVA owed, stop, start with new ranges, pay
///       stopped ----------> logging -------------------.
///          |  ^               |  ^---------------------'
///          |  |  stop         |  start or stop failed, half an unmap
///          |  '---------------+-----------------.
///          |      start failed                  v
///          '-----------------------> everythingMapped --- stop ---> stopped
///
/// Invariants:
/// 1. The table holds what the backend holds, when nobody is inside an operation.
/// 2. A mapping leaves the table after its dirt is in the log.
/// 3. Marks for a mapping that goes away are made after the backend has removed it: whatever the
///    device wrote until then is in memory when a harvest takes the page.
/// 4. What an operation makes dirty is marked, or written down as owed, before it ends.
/// 5. A map or an unmap waits for one step, however long the course.
final class TrackedContainer: Sendable {
  let context: ContainerContext
  let operation: TurnLock<ContainerState>
  /// Held over a course; with it goes the window size that suits the backend.
  let courses: Mutex<WindowPace>

  init(
    id: ContainerID, backend: any DMAContainer, ownership: ContainerOwnership,
    addressSpace: ContainerAddressSpace, settings: TrackerSettings
  ) throws(TrackerError) {
    context = ContainerContext(
      id: id, backend: backend, ownership: ownership, addressSpace: addressSpace,
      settings: settings)
    courses = Mutex(WindowPace(hasClock: settings.pace.clock != nil))
    do {
      let bitmap = try QueryBitmap(byteCountMax: ContainerState.bitmapByteCountMin)
      operation = TurnLock(
        ContainerState(context: context, addressSpace: addressSpace, bitmap: bitmap))
    } catch {
      throw .outOfMemory(container: backend.name, error)
    }
  }

  var id: ContainerID { context.id }
  var name: String { context.name }
}
