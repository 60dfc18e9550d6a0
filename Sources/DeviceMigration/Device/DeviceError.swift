/// A device, or what stands for it, said no.
public struct DeviceError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// A call was refused or failed.
    case refused
    /// The device has no interface for this.
    case interfaceMissing
    /// The device answered something its interface does not allow.
    case protocolBroken
    /// The device is in a state from which this can not be done.
    case wrongState(DeviceState)
    /// Neither RUNNING nor a reset brought the device back.
    case notRecovered
    /// The PCI configuration can not be saved or restored.
    case configuration(PCIFault)
  }

  public let reason: Reason
  /// The device, by name.
  public let object: String
  /// What was asked, in the interface's words: `SET PRE_COPY`, `read data_offset`.
  public let operation: String
  /// The kernel's word; ``DeviceErrno/none`` when no call failed.
  public let errno: DeviceErrno
  /// What else is known, a clause without full stop; may be empty.
  public let detail: String
  /// What was done about it, or what holds now; may be empty.
  public let outcome: String

  public init(
    _ reason: Reason = .refused, object: String, operation: String, errno: DeviceErrno = .none,
    detail: String = "", outcome: String = ""
  ) {
    self.reason = reason
    self.object = object
    self.operation = operation
    self.errno = errno
    self.detail = detail
    self.outcome = outcome
  }

  /// The same error with what was done about it.
  public func with(outcome: String) -> DeviceError {
    DeviceError(
      reason, object: object, operation: operation, errno: errno, detail: detail, outcome: outcome)
  }

  /// `device nic0: SET PRE_COPY failed with EIO: the firmware gave up; the device is in RUNNING.`
  public var description: String {
    var text = "device \(object): \(operation) failed"
    if errno != .none { text += " with \(errno)" }
    if case .configuration(let fault) = reason { text += ": \(fault)" }
    if !detail.isEmpty { text += ": \(detail)" }
    if !outcome.isEmpty { text += "; \(outcome)" }
    return text + "."
  }
}
