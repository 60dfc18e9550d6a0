import DeviceMigration
import Locking

/// The data session of a ``SimulatedV2Device``. One that is closed, or whose state the device has
/// left, answers EBADF or ENODEV.
final class SimulatedV2Session: DeviceDataSession {
  private let device: SimulatedV2Device
  private let number: Int
  private let isClosed = Mutex(false)

  init(device: SimulatedV2Device, number: Int) {
    self.device = device
    self.number = number
  }

  func close() { isClosed.withLock { $0 = true } }

  func read(into buffer: inout MutableRawSpan) throws(DeviceError) -> ReadOutcome {
    let byteCountMax = min(buffer.byteCount, device.options.byteCountPerCall)
    var answer: Result<[UInt8], DeviceErrno.Failure> = .success([])
    var isStopped = false
    let lies = try device.call("read") { inside in
      isStopped = inside.state == .stopCopy
      answer = self.take(byteCountMax, from: &inside)
    }
    switch answer {
    case .failure(let failure): throw device.refusal("read", failure.errno)
    case .success(let bytes):
      if lies { return .bytes(buffer.byteCount + 1) }
      DeviceBytes.copy(bytes, 0..<bytes.count, into: &buffer)
      if !bytes.isEmpty { return .bytes(bytes.count) }
      return isStopped || device.options.endsInsteadOfTemporaryEnd ? .end : .temporaryEnd
    }
  }

  func write(_ bytes: RawSpan) throws(DeviceError) -> Int {
    let count = min(bytes.byteCount, device.options.byteCountPerCall)
    let taken = DeviceBytes.copy(bytes.extracting(first: count))
    var errno = DeviceErrno.none
    let lies = try device.call("write") { inside in
      errno = self.give(taken, to: &inside)
    }
    if errno != .none { throw device.refusal("write", errno) }
    return lies ? bytes.byteCount + 1 : count
  }

  func precopyInfo() throws(DeviceError) -> PrecopyInfo {
    var info: PrecopyInfo?
    let lies = try device.call("GET_PRECOPY_INFO") { inside in
      guard self.serves(inside), inside.state.isPrecopy, var saver = inside.saver else { return }
      let isRead =
        saver.initialByteCount(inside.image) == 0 && inside.outboxOffset == inside.outbox.count
      let restarts = inside.saysRestarts && isRead && self.device.faults.restartsNow()
      if restarts { saver.restart(&inside.image) }
      inside.saver = saver
      let waiting = inside.outbox.count - inside.outboxOffset
      let initialWaiting = max(0, inside.outboxInitialCount - inside.outboxOffset)
      info = PrecopyInfo(
        initialBytes: self.device.faults.claimed(
          UInt64(initialWaiting + saver.initialByteCount(inside.image))),
        dirtyBytes: UInt64(waiting - initialWaiting + saver.dirtyByteCount(inside.image)),
        initialDataRestarted: restarts)
    }
    guard device.features.contains(.precopy) else {
      throw device.refusal("GET_PRECOPY_INFO", .enotty)
    }
    guard let info else { throw device.refusal("GET_PRECOPY_INFO", .einval) }
    return lies ? PrecopyInfo(initialBytes: UInt64.max, dirtyBytes: UInt64.max) : info
  }

  private func serves(_ inside: borrowing SimulatedV2Device.Inside) -> Bool {
    inside.hasSession && inside.sessionNumber == number && !isClosed.withLock { $0 }
  }

  private func take(
    _ byteCountMax: Int, from inside: inout SimulatedV2Device.Inside
  ) -> Result<[UInt8], DeviceErrno.Failure> {
    if isClosed.withLock({ $0 }) { return .failure(.init(.ebadf)) }
    guard serves(inside) else { return .failure(.init(.enodev)) }
    guard inside.state.isSaving, var saver = inside.saver else { return .failure(.init(.einval)) }
    if inside.outboxOffset == inside.outbox.count {
      let initialBefore = saver.initialByteCount(inside.image)
      inside.outbox = saver.next(
        &inside.image, pageCountMax: 16, isStopped: inside.state == .stopCopy)
      inside.outboxOffset = 0
      inside.outboxInitialCount = initialBefore - saver.initialByteCount(inside.image)
      inside.saver = saver
    }
    let end = min(inside.outbox.count, inside.outboxOffset + byteCountMax)
    let bytes = Array(inside.outbox[inside.outboxOffset..<end])
    inside.outboxOffset = end
    return .success(bytes)
  }

  private func give(_ bytes: [UInt8], to inside: inout SimulatedV2Device.Inside) -> DeviceErrno {
    if isClosed.withLock({ $0 }) { return .ebadf }
    guard serves(inside) else { return .enodev }
    guard inside.state == .resuming, inside.loader != nil else { return .einval }
    return inside.loader?.take(bytes) == true ? .none : .einval
  }
}
