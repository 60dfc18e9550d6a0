import Locking

/// A device of the v1 migration region.
///
/// Terms: a chunk is **prepared** once `data_offset` has been read for it, and **acknowledged** by
/// the next read of `pending_bytes`.
///
/// Invariants, beyond those of ``MigratableDevice``:
/// 1. Registers are read in the order `pending_bytes`, `data_offset`, `data_size`, data; nothing
///    reads `pending_bytes` between, for that would acknowledge a chunk nobody has.
/// 2. A chunk is what lay between two reads of `pending_bytes`, whole; it is loaded whole.
/// 3. `device_state` is written with the bits that are not ours as they were read.
/// 4. No offset and no size of the device is used before it has been checked against the region.
public final class MigratableDeviceV1: MigratableDevice, StatefulDevice {
  /// Bytes of the registers at the start of the region.
  public static let registerByteCount: UInt64 = 32

  public let name: String
  public let interface: MigrationInterface
  let migration: any VFIOMigrationV1
  let configuration: PCIConfiguration?
  let course: DeviceCourse
  let scratch = ChunkScratch()
  /// `pending_bytes` as read before a chunk that is prepared and could not be read to its end; the
  /// reads after it may be repeated, that of `pending_bytes` may not.
  let unfinished = Mutex<UInt64?>(nil)

  /// Reads `device_state`. Does not fail: a device that does not answer has the interface
  /// ``MigrationInterface/none(reason:)`` and blocks the migration by name.
  public init(
    name: String, migration: any VFIOMigrationV1, configuration: PCIConfiguration? = nil
  ) {
    self.name = name
    self.migration = migration
    self.configuration = configuration
    var state = DeviceState.running
    var interface = MigrationInterface.v1
    do throws(DeviceError) {
      state = DeviceStateV1(try migration.readDeviceState()).v2Equivalent ?? .error
      if migration.regionByteCount <= Self.registerByteCount {
        interface = .none(reason: "its migration region has no room for data")
      }
    } catch {
      interface = .none(reason: "it did not answer: \(error)")
    }
    self.interface = interface
    self.course = DeviceCourse(state: state)
  }

  public var state: DeviceState { course.state }
  public var observedStates: [DeviceState] { course.observedStates }

  /// Reads `device_state`; what can not be read, or means nothing, counts as ERROR.
  @discardableResult
  func refresh() -> DeviceError? {
    do throws(DeviceError) {
      let raw = DeviceStateV1(try migration.readDeviceState())
      course.passed([raw.v2Equivalent ?? .error])
      if !course.state.isSaving { abandonData() }
      return nil
    } catch {
      course.passed([.error])
      return error
    }
  }

  func abandonData() { unfinished.withLock { $0 = nil } }

  func resetDevice() throws(DeviceError) { try migration.reset() }

  func move(to target: DeviceState) throws(DeviceError) {
    let operation = "write device_state \(target)"
    guard interface.isMigratable else {
      throw DeviceError(.interfaceMissing, object: name, operation: operation)
    }
    if course.state == target { return }
    do throws(DeviceError) {
      let raw = DeviceStateV1(try migration.readDeviceState())
      guard raw.v2Equivalent == course.state, let wanted = raw.replaced(by: target) else {
        throw DeviceError(
          .wrongState(raw.v2Equivalent ?? .error), object: name, operation: operation,
          detail: "device_state reads \(raw)")
      }
      try migration.writeDeviceState(wanted.rawValue)
      let now = DeviceStateV1(try migration.readDeviceState())
      guard now.v2Equivalent == target else {
        throw DeviceError(
          .protocolBroken, object: name, operation: operation,
          detail: "it was accepted and device_state reads \(now)")
      }
    } catch {
      throw located(error)
    }
    course.passed([target])
    if !target.isSaving { abandonData() }
  }

  /// The region range of a chunk, checked: behind the registers, inside the region, and of a size
  /// that travels.
  func checkedByteCount(
    offset: UInt64, byteCount: UInt64, operation: String
  ) throws(DeviceError) -> Int {
    func broken(_ detail: String) -> DeviceError {
      DeviceError(.protocolBroken, object: name, operation: operation, detail: detail)
    }
    guard byteCount > 0 else { throw broken("bytes are pending and data_size is 0") }
    guard byteCount <= UInt64(DeviceChunk.byteCountMax) else {
      throw broken("data_size \(byteCount) is more than \(DeviceChunk.byteCountMax) bytes")
    }
    let (end, overflow) = offset.addingReportingOverflow(byteCount)
    guard !overflow, offset >= Self.registerByteCount, end <= migration.regionByteCount else {
      throw broken(
        "data_offset \(offset) with \(byteCount) bytes leaves the data section of a region of "
          + "\(migration.regionByteCount) bytes")
    }
    return Int(byteCount)
  }
}
