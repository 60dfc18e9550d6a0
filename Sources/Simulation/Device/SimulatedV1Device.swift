public import DeviceMigration
import Locking

/// A device with the v1 migration region. Its registers have the side effects the header gives
/// them, and it is as strict as a real one may be: a register used out of order, or a chunk cut
/// otherwise than its source cut it, puts it in the error state.
///
/// A chunk is a sequence number (4 bytes) and whole records of the state.
public final class SimulatedV1Device: VFIOMigrationV1, WorkingDevice {
  /// Where in the exchange of one chunk the device is, by what was done last.
  enum Step { case acknowledged, announced, prepared, sized, read }

  struct Inside {
    /// With bits of the device's own above the three of the interface.
    var deviceState: UInt32 = 0xa5a5_a5a0 | DeviceStateV1.runningBit
    var image: DeviceImage
    var saver: DeviceImageSaver?
    var loader: DeviceImageLoader?
    var step = Step.acknowledged
    var chunk: [UInt8] = []
    /// Where the chunk lies, or is to go; changes from chunk to chunk.
    var offset: UInt64 = 0
    var sequence: UInt32 = 0
    var section: [UInt8] = []

    var state: DeviceState { DeviceStateV1(deviceState).v2Equivalent ?? .error }
    mutating func enterError() {
      deviceState =
        deviceState & ~DeviceStateV1.mask | DeviceStateV1.resumingBit | DeviceStateV1.savingBit
    }
  }

  /// The data section begins here; the last chunk position leaves room for the largest chunk.
  static let sectionOffset: UInt64 = 4096
  static let pagesPerChunkMax = 8
  static let chunkByteCountMax = 4096 * (pagesPerChunkMax + 2)

  public let name: String
  public let faults: DeviceFaults
  let options: SimulatedDeviceOptions
  let inside: Mutex<Inside>

  public init(
    name: String, options: SimulatedDeviceOptions = .init(), faults: DeviceFaults = DeviceFaults()
  ) {
    self.name = name
    self.options = options
    self.faults = faults
    self.inside = Mutex(Inside(image: DeviceImage(pageCount: options.pageCount)))
  }

  public var regionByteCount: UInt64 { Self.sectionOffset + 3 * UInt64(Self.chunkByteCountMax) }
  public var trueState: DeviceState { inside.withLock { $0.state } }
  /// The whole of `device_state`, the device's own bits with it.
  public var trueDeviceState: UInt32 { inside.withLock { $0.deviceState } }
  public var stateDigest: UInt64 { inside.withLock { $0.image.digest } }

  public func whileItMayWrite<R: Sendable>(_ body: (inout DeviceImage) -> R) -> R? {
    inside.withLock { (inside: inout Inside) -> R? in
      switch inside.state {
      case .running, .precopy: body(&inside.image)
      default: nil
      }
    }
  }

  public func readDeviceState() throws(DeviceError) -> UInt32 {
    var value: UInt32 = 0
    let lies = try call("read device_state") { inside in
      value = inside.deviceState
      return .none
    }
    return lies ? value | DeviceStateV1.mask : value
  }

  public func writeDeviceState(_ value: UInt32) throws(DeviceError) {
    try call("write device_state") { inside in self.change(&inside, to: DeviceStateV1(value)) }
  }

  public func reset() throws(DeviceError) {
    if faults.resetFails() { throw refusal("VFIO_DEVICE_RESET", .eio) }
    inside.withLock { $0 = Inside(image: DeviceImage(pageCount: self.options.pageCount)) }
  }

  private func change(_ inside: inout Inside, to wanted: DeviceStateV1) -> DeviceErrno {
    guard let target = wanted.v2Equivalent, target != .error,
      Self.isArc(from: inside.state, to: target)
    else { return .einval }
    if target == inside.state {
      inside.deviceState = wanted.rawValue
      return .none
    }
    if inside.state == .resuming {
      guard let loader = inside.loader, loader.isComplete else {
        inside.enterError()
        return .einval
      }
      inside.image = loader.image
    }
    switch target {
    case .precopy: begin(&inside)
    case .stopCopy: if inside.state != .precopy { begin(&inside) }
    case .resuming:
      inside.loader = DeviceImageLoader(pageCount: options.pageCount)
      inside.sequence = 0
    default:
      inside.saver = nil
      inside.loader = nil
    }
    inside.deviceState = wanted.rawValue
    return .none
  }

  private func begin(_ inside: inout Inside) {
    inside.saver = DeviceImageSaver(&inside.image)
    inside.step = .acknowledged
    inside.sequence = 0
  }

  /// The arcs of the header's table, and the ways back to running that a cancel needs.
  private static func isArc(from: DeviceState, to: DeviceState) -> Bool {
    switch (from, to) {
    case (.running, .stop), (.running, .stopCopy), (.running, .precopy), (.running, .resuming),
      (.precopy, .stopCopy), (.precopy, .running), (.stopCopy, .stop), (.stopCopy, .running),
      (.stop, .running), (.stop, .stopCopy), (.stop, .resuming), (.resuming, .running):
      true
    default: from == to && from != .error
    }
  }

  /// Counts the call and gives it its effect, or the fault that is planned for it.
  /// - Returns: true when the answer is to be a lie.
  @discardableResult
  func call(
    _ operation: String, _ effect: (inout Inside) -> DeviceErrno
  ) throws(DeviceError) -> Bool {
    var errno = DeviceErrno.none
    let fault = faults.nextCall()
    switch fault {
    case nil, .lie: errno = inside.withLock { effect(&$0) }
    case .refuse(let planned): errno = planned
    case .failAfterwards(let planned):
      _ = inside.withLock { effect(&$0) }
      errno = planned
    case .breakDown(let planned):
      inside.withLock { $0.enterError() }
      errno = planned
    }
    guard errno == .none else { throw refusal(operation, errno) }
    return fault == .lie
  }

  func refusal(_ operation: String, _ errno: DeviceErrno) -> DeviceError {
    DeviceError(object: name, operation: operation, errno: errno)
  }
}
