public import DeviceMigration
import Locking

/// A device with v2 migration: it walks the arcs as the kernel's core does and refuses with the
/// kernel's error numbers.
public final class SimulatedV2Device: VFIOMigrationV2, WorkingDevice {
  struct Inside {
    var state = DeviceState.running
    var image: DeviceImage
    var saver: DeviceImageSaver?
    var loader: DeviceImageLoader?
    /// Produced and not read yet; from `outboxOffset` on.
    var outbox: [UInt8] = []
    var outboxOffset = 0
    /// Of the outbox, how many bytes belong to the first pass.
    var outboxInitialCount = 0
    /// Sessions handed out; only the last one, while its state lasts, is served.
    var sessionNumber = 0
    var hasSession = false
    /// It was told that it may say that its initial data began again.
    var saysRestarts = false
  }

  public let name: String
  public let features: MigrationFeatures
  public let faults: DeviceFaults
  let options: SimulatedDeviceOptions
  let table: DeviceStateTable
  let inside: Mutex<Inside>

  public init(
    name: String, features: MigrationFeatures, options: SimulatedDeviceOptions = .init(),
    faults: DeviceFaults = DeviceFaults()
  ) {
    self.name = name
    self.features = features
    self.options = options
    self.faults = faults
    self.table = DeviceStateTable(features: features)
    self.inside = Mutex(Inside(image: DeviceImage(pageCount: options.pageCount)))
  }

  /// What the device itself says, past all faults.
  public var trueState: DeviceState { inside.withLock { $0.state } }
  public var stateDigest: UInt64 { inside.withLock { $0.image.digest } }

  public func whileItMayWrite<R: Sendable>(_ body: (inout DeviceImage) -> R) -> R? {
    inside.withLock { (inside: inout Inside) -> R? in
      switch inside.state {
      case .running, .runningP2P, .precopy, .precopyP2P: body(&inside.image)
      case .error, .stop, .stopCopy, .resuming: nil
      }
    }
  }

  public func migrationFeatures() throws(DeviceError) -> MigrationFeatures {
    let lies = try call("GET MIGRATION") { _ in }
    if features.isEmpty { throw refusal("GET MIGRATION", .enotty) }
    return lies ? [] : features
  }

  public func state() throws(DeviceError) -> DeviceState {
    try call("GET MIG_DEVICE_STATE") { _ in }
    return trueState
  }

  public func stopCopyByteCount() throws(DeviceError) -> UInt64 {
    let lies = try call("GET MIG_DATA_SIZE") { _ in }
    guard options.saysDataSize else { throw refusal("GET MIG_DATA_SIZE", .enotty) }
    if lies { return UInt64.max }
    return inside.withLock { inside in
      let image = inside.image
      guard let saver = inside.saver else {
        let pages = image.pageCount * DeviceRecordKind.pageRecordByteCount
        return UInt64(pages)
      }
      return UInt64(
        inside.outbox.count - inside.outboxOffset + saver.initialByteCount(image)
          + saver.dirtyByteCount(image) + saver.finalByteCount())
    }
  }

  public func enablePrecopyRestarts() throws(DeviceError) -> Bool {
    let isKnown = options.knowsPrecopyRestarts && features.contains(.precopy)
    try call("SET MIG_PRECOPY_INFOv2") { $0.saysRestarts = isKnown }
    return isKnown
  }

  public func setState(_ target: DeviceState) throws(DeviceError) -> (any DeviceDataSession)? {
    let operation = "SET \(target)"
    var result: Result<Int?, DeviceErrno.Failure> = .success(nil)
    try call(operation) { inside in result = self.walk(&inside, to: target) }
    switch result {
    case .success(let number):
      guard let number else { return nil }
      return SimulatedV2Session(device: self, number: number)
    case .failure(let failure): throw refusal(operation, failure.errno)
    }
  }

  public func reset() throws(DeviceError) {
    if faults.resetFails() { throw refusal("VFIO_DEVICE_RESET", .eio) }
    inside.withLock { inside in
      let sessionNumber = inside.sessionNumber
      inside = Inside(image: DeviceImage(pageCount: self.options.pageCount))
      inside.sessionNumber = sessionNumber
    }
  }

  /// Counts the call and gives it its effect, or the fault that is planned for it.
  /// - Returns: true when the answer is to be a lie.
  @discardableResult
  func call(_ operation: String, _ effect: (inout Inside) -> Void) throws(DeviceError) -> Bool {
    switch faults.nextCall() {
    case nil:
      inside.withLock { effect(&$0) }
      return false
    case .refuse(let errno): throw refusal(operation, errno)
    case .failAfterwards(let errno):
      inside.withLock { effect(&$0) }
      throw refusal(operation, errno)
    case .breakDown(let errno):
      inside.withLock { Self.enterError(&$0) }
      throw refusal(operation, errno)
    case .lie:
      inside.withLock { effect(&$0) }
      return true
    }
  }

  func refusal(_ operation: String, _ errno: DeviceErrno) -> DeviceError {
    DeviceError(object: name, operation: operation, errno: errno)
  }

  static func enterError(_ inside: inout Inside) {
    inside.state = .error
    inside.saver = nil
    inside.loader = nil
    inside.hasSession = false
  }

  /// - Returns: the number of the session the last arc opened.
  private func walk(
    _ inside: inout Inside, to target: DeviceState
  ) -> Result<Int?, DeviceErrno.Failure> {
    guard let path = table.path(from: inside.state, to: target) else {
      return .failure(.init(.einval))
    }
    var opened: Int?
    for next in path {
      opened = nil
      switch SessionEffect(from: inside.state, to: next) {
      case .none, .keeps: break
      case .opens:
        inside.sessionNumber += 1
        inside.hasSession = true
        inside.outbox = []
        inside.outboxOffset = 0
        inside.outboxInitialCount = 0
        if next == .resuming {
          inside.loader = DeviceImageLoader(pageCount: options.pageCount)
        } else {
          inside.saver = DeviceImageSaver(&inside.image)
        }
        opened = inside.sessionNumber
      case .ends:
        inside.hasSession = false
        inside.saver = nil
        if let loader = inside.loader {
          guard loader.isComplete else {
            Self.enterError(&inside)
            return .failure(.init(.einval))
          }
          inside.image = loader.image
          inside.loader = nil
        }
      }
      inside.state = next
    }
    return .success(opened)
  }
}

extension DeviceErrno {
  struct Failure: Error {
    let errno: DeviceErrno
    init(_ errno: DeviceErrno) { self.errno = errno }
  }
}
