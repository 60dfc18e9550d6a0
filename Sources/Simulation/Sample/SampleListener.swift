import Addressing
import DirtyTracker
import GuestDirtyLog
import Locking

/// The VMM between the guest's vIOMMU and the tracker, for one container.
final class SampleListener: IOMMUListener {
  private let tracker: DirtyTracker
  private let id: ContainerID
  /// Told before an unmap, as a mediated device's driver is: it lets go of what it holds pinned.
  private let unmapping = Mutex<[@Sendable (IOVARange) -> Void]>([])

  init(tracker: DirtyTracker, id: ContainerID) {
    self.tracker = tracker
    self.id = id
  }

  func beforeUnmap(_ body: @escaping @Sendable (IOVARange) -> Void) {
    unmapping.withLock { $0.append(body) }
  }

  func map(_ iova: IOVARange, to gpa: GPA, permissions: Permissions) throws(IOMMURefusal) {
    do throws(TrackerError) {
      try tracker.iommuMap(id, iova, to: gpa, permissions: permissions)
    } catch {
      throw IOMMURefusal(event: .map(iova, gpa: gpa, permissions), reason: "\(error)")
    }
  }

  func unmap(_ iova: IOVARange) throws(IOMMURefusal) {
    for body in unmapping.withLock({ $0 }) { body(iova) }
    do throws(TrackerError) {
      try tracker.iommuUnmap(id, iova)
    } catch {
      throw IOMMURefusal(event: .unmap(iova), reason: "\(error)")
    }
  }

  func setPassThrough(_ isOn: Bool) throws(IOMMURefusal) {
    for body in unmapping.withLock({ $0 }) { body(.wholeSpace) }
    do throws(TrackerError) {
      try tracker.switchAddressSpace(id, to: isOn ? .identity : .remapped)
    } catch {
      throw IOMMURefusal(event: .passThrough(isOn), reason: "\(error)")
    }
  }
}
