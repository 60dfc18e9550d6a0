import Locking

/// A device of the v2 interface.
///
/// Invariants, beyond those of ``MigratableDevice``:
/// 1. A session is held exactly while the device is in a state that has one and gave it to us.
/// 2. After a SET that failed the state is asked for; where the device does not even say that, it
///    counts as ERROR, which only a reset leaves.
/// 3. 0 bytes in a pre-copy state is not the end (mtty of the kernel's samples answers so where
///    ENOMSG is due), and ENOMSG in STOP_COPY is not one either but a broken device.
public final class MigratableDeviceV2: MigratableDevice, StatefulDevice {
  public let name: String
  public let interface: MigrationInterface
  let migration: any VFIOMigrationV2
  let configuration: PCIConfiguration?
  let course: DeviceCourse
  let table: DeviceStateTable
  let scratch = ChunkScratch()
  /// The device took the word that lets it say that its initial data began again.
  let saysRestarts = Mutex(false)
  private let held = Mutex<(any DeviceDataSession)?>(nil)

  /// Asks the device for its features and its state. Does not fail: a device that does not answer
  /// has the interface ``MigrationInterface/none(reason:)`` and blocks the migration by name.
  public init(
    name: String, migration: any VFIOMigrationV2, configuration: PCIConfiguration? = nil
  ) {
    self.name = name
    self.migration = migration
    self.configuration = configuration
    var features: MigrationFeatures = []
    var state = DeviceState.running
    var interface: MigrationInterface
    do throws(DeviceError) {
      features = try migration.migrationFeatures()
      if features.contains(.stopCopy) {
        state = try migration.state()
        interface = .v2(features)
      } else {
        interface = .none(reason: "its driver does not offer STOP_COPY")
      }
    } catch {
      interface =
        error.errno == .enotty
        ? .none(reason: "its driver has no migration interface")
        : .none(reason: "it did not answer: \(error)")
    }
    self.interface = interface
    self.table = DeviceStateTable(features: features)
    self.course = DeviceCourse(state: state)
  }

  public var state: DeviceState { course.state }
  public var observedStates: [DeviceState] { course.observedStates }
  var session: (any DeviceDataSession)? { held.withLock { $0 } }

  func hold(_ session: (any DeviceDataSession)?) {
    let before = held.withLock { held in
      let before = held
      held = session
      return before
    }
    before?.close()
  }

  func abandonData() { hold(nil) }

  func resetDevice() throws(DeviceError) { try migration.reset() }

  /// Asks the device for its state. A session of a state the device has left is given back: a
  /// guest that resets its device ends the session under us.
  @discardableResult
  func refresh() -> DeviceError? {
    do throws(DeviceError) {
      let now = try migration.state()
      if now != course.state {
        let kept = table.path(from: course.state, to: now).map { path in
          zip([course.state] + path, path).allSatisfy { SessionEffect(from: $0, to: $1) == .keeps }
        }
        if kept != true { hold(nil) }
        course.passed([now])
      }
      return nil
    } catch {
      hold(nil)
      course.passed([.error])
      return error
    }
  }

  func move(to target: DeviceState) throws(DeviceError) {
    guard interface.isMigratable else {
      throw DeviceError(.interfaceMissing, object: name, operation: "SET \(target)")
    }
    let from = course.state
    guard let path = table.path(from: from, to: target) else {
      throw wrongState("SET \(target)")
    }
    guard let last = path.last else { return }
    let opened: (any DeviceDataSession)?
    do throws(DeviceError) {
      opened = try migration.setState(target)
    } catch {
      throw located(error)
    }
    let states = [from] + path
    let effects = zip(states, path).map { SessionEffect(from: $0, to: $1) }
    course.passed(path)
    let isOpened = effects.last == .opens
    if !effects.allSatisfy({ $0 == .keeps }) { hold(isOpened ? opened : nil) }
    guard isOpened == (opened != nil) else {
      if !isOpened { opened?.close() }
      throw DeviceError(
        .protocolBroken, object: name, operation: "SET \(target)",
        detail: isOpened
          ? "the arc to \(last) opens a data session and none came"
          : "a data session came with an arc to \(last), which opens none")
    }
  }
}
