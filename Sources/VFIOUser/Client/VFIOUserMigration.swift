public import DeviceMigration
import Locking

/// The v2 migration interface of a device behind a connection: MIGRATION and MIG_DEVICE_STATE of
/// DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE.
public final class VFIOUserMigration: VFIOMigrationV2 {
  private struct Known: Sendable {
    var features: MigrationFeatures?
    /// Nil where the device has to be asked.
    var state: DeviceState?
    /// Of sessions handed out; only the last is served.
    var sessionNumber = 0
  }

  private let client: VFIOUserClient
  private let known = Mutex(Known())

  public init(client: VFIOUserClient) { self.client = client }

  /// libvfio-user answers EINVAL to every feature where its device does not migrate.
  public func migrationFeatures() throws(DeviceError) -> MigrationFeatures {
    let operation = "GET MIGRATION"
    do throws(VFIOUserError) {
      let data = try client.feature(
        FeatureMessage(.migration, .get, answerByteCount: MemoryLayout<UInt64>.size))
      var reader = WireReader(data, operation)
      let features = MigrationFeatures(rawValue: try reader.take())
      known.withLock { $0.features = features }
      return features
    } catch {
      let absent = [WireErrno.einval, WireErrno.enotty, WireErrno.eopnotsupp]
      if error.reason == .refused, absent.contains(error.errno) {
        throw DeviceError(
          object: client.name, operation: operation, errno: .enotty, detail: "\(error)")
      }
      throw failed(operation, error)
    }
  }

  public func state() throws(DeviceError) -> DeviceState {
    let operation = "GET MIG_DEVICE_STATE"
    do throws(VFIOUserError) {
      let data = try client.feature(FeatureMessage(.deviceState, .get, answerByteCount: 8))
      let state = try DeviceStateMessage(decoding: data).state
      known.withLock { $0.state = state }
      return state
    } catch {
      known.withLock { $0.state = nil }
      throw failed(operation, error)
    }
  }

  public func setState(_ state: DeviceState) throws(DeviceError) -> (any DeviceDataSession)? {
    let operation = "SET \(state)"
    let from: DeviceState
    if let before = known.withLock({ $0.state }) { from = before } else { from = try self.state() }
    let message = DeviceStateMessage(state: state)
    do throws(VFIOUserError) {
      _ = try client.feature(FeatureMessage(.deviceState, .set, data: message.encoded()))
    } catch {
      // It may be anywhere on the path.
      known.withLock { $0.state = nil }
      throw failed(operation, error)
    }
    let number = known.withLock { (known: inout sending Known) -> Int? in
      known.state = state
      // The protocol has no data descriptor: a session is the device's state itself.
      let path = DeviceStateTable(features: known.features ?? [.stopCopy, .precopy])
        .path(from: from, to: state)
      let before = path.map { $0.count > 1 ? $0[$0.count - 2] : from } ?? from
      guard state != from, SessionEffect(from: before, to: state) == .opens else { return nil }
      known.sessionNumber += 1
      return known.sessionNumber
    }
    return number.map { VFIOUserDataSession(migration: self, number: $0) }
  }

  /// Not in this protocol.
  public func stopCopyByteCount() throws(DeviceError) -> UInt64 {
    throw DeviceError(
      object: client.name, operation: "GET MIG_DATA_SIZE", errno: .enotty,
      detail: "vfio-user has no such feature")
  }

  public func reset() throws(DeviceError) {
    known.withLock { $0.state = nil }
    do throws(VFIOUserError) { try client.reset() } catch {
      throw failed("DEVICE_RESET", error)
    }
  }

  // MARK: data

  private func check(_ number: Int, _ operation: String) throws(DeviceError) {
    guard known.withLock({ $0.sessionNumber }) == number else {
      throw DeviceError(
        object: client.name, operation: operation, errno: .enodev,
        detail: "a later session has begun")
    }
  }

  /// Bytes of one message.
  private var byteCountMax: Int { client.dataByteCountMax }

  fileprivate func read(
    into buffer: inout MutableRawSpan, _ number: Int
  ) throws(DeviceError) -> ReadOutcome {
    try check(number, "MIG_DATA_READ")
    let asked = min(buffer.byteCount, byteCountMax)
    guard asked > 0 else {
      throw DeviceError(
        .protocolBroken, object: client.name, operation: "MIG_DATA_READ",
        detail: "no room was given")
    }
    do throws(VFIOUserError) {
      guard
        case .migrationRead(let data) = try client.request(.migrationRead(byteCount: asked)).reply
      else { preconditionFailure("an answer has the form of its request") }
      // A short answer is not taken for the end: libvfio-user's devices give what they have at
      // hand,
      // and only nothing is the end of it.
      guard data.isEmpty else {
        DeviceBytes.copy(data, 0..<data.count, into: &buffer)
        return .bytes(data.count)
      }
      return known.withLock({ $0.state }) == .stopCopy ? .end : .temporaryEnd
    } catch {
      throw failed("MIG_DATA_READ", error)
    }
  }

  fileprivate func write(_ bytes: RawSpan, _ number: Int) throws(DeviceError) -> Int {
    if bytes.isEmpty { return 0 }
    try check(number, "MIG_DATA_WRITE")
    let part = DeviceBytes.copy(bytes.extracting(first: min(bytes.byteCount, byteCountMax)))
    do throws(VFIOUserError) {
      _ = try client.request(.migrationWrite(part))
      return part.count
    } catch {
      throw failed("MIG_DATA_WRITE", error)
    }
  }

  fileprivate func failed(_ operation: String, _ error: VFIOUserError) -> DeviceError {
    let errno = error.errno == 0 ? WireErrno.eio : error.errno
    return DeviceError(
      error.reason == .malformed || error.reason == .protocolBroken ? .protocolBroken : .refused,
      object: client.name, operation: operation, errno: DeviceErrno(errno), detail: "\(error)")
  }

  fileprivate var name: String { client.name }
}

/// A time in a state that has data.
private final class VFIOUserDataSession: DeviceDataSession {
  private let migration: VFIOUserMigration
  private let number: Int
  private let isClosed = Mutex(false)

  init(migration: VFIOUserMigration, number: Int) {
    self.migration = migration
    self.number = number
  }

  private func check(_ operation: String) throws(DeviceError) {
    guard !isClosed.withLock({ $0 }) else {
      throw DeviceError(
        object: migration.name, operation: operation, errno: .ebadf,
        detail: "the session is closed")
    }
  }

  func read(into buffer: inout MutableRawSpan) throws(DeviceError) -> ReadOutcome {
    try check("MIG_DATA_READ")
    return try migration.read(into: &buffer, number)
  }

  func write(_ bytes: RawSpan) throws(DeviceError) -> Int {
    try check("MIG_DATA_WRITE")
    return try migration.write(bytes, number)
  }

  /// Not in this protocol.
  func precopyInfo() throws(DeviceError) -> PrecopyInfo {
    throw DeviceError(
      object: migration.name, operation: "GET_PRECOPY_INFO", errno: .enotty,
      detail: "vfio-user has no such call")
  }

  func close() { isClosed.withLock { $0 = true } }
}

extension VFIOUserClient {
  /// The device as a migration takes it. One that does not migrate comes with the interface
  /// ``MigrationInterface/none(reason:)``.
  public func migratable(
    _ name: String, configuration: PCIConfiguration? = nil
  ) -> any MigratableDevice {
    MigratableDeviceV2(
      name: name, migration: VFIOUserMigration(client: self), configuration: configuration)
  }
}
