import Addressing

/// What knows the pages that vCPUs wrote: KVM's log, PAGEMAP_SCAN, the guest threads themselves.
public protocol CPUDirtySource: AnyObject, Sendable {
  /// For reports: `PAGEMAP_SCAN`, `KVM dirty bitmap`.
  var name: String { get }

  /// Starts from clean: what was written before is not reported.
  func start() throws(CPUDirtyError)
  func stop()

  /// Marks what was written since the last call, and forgets it. On an error what was read is
  /// marked; the caller marks the rest.
  /// - Returns: pages reported.
  func collect(into log: GuestDirtyLog) throws(CPUDirtyError) -> UInt64
}

/// The source of vCPU dirt failed.
public struct CPUDirtyError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The source, by name.
  public let object: String
  /// What was asked, in the kernel's words: `ioctl PAGEMAP_SCAN`.
  public let operation: String
  /// A positive errno of Linux; 0 when no call failed.
  public let errno: Int32
  /// What it means and what helps: which kernel has it, what is used instead.
  public let detail: String

  public init(object: String, operation: String, errno: Int32, detail: String) {
    self.object = object
    self.operation = operation
    self.errno = errno
    self.detail = detail
  }

  public var description: String {
    "\(object): \(operation) failed" + (errno == 0 ? "" : " with \(ErrorNumber.name(errno))")
      + (detail.isEmpty ? "" : ": \(detail)")
  }
}
