/// One page a device wrote, as it really was: the oracle of tests.
public struct DeviceWrite: Hashable, Sendable {
  /// The device's name.
  public let device: String
  /// 4 KiB page numbers.
  public let iovaPage: UInt64
  public let gpaPage: UInt64

  public init(device: String, iovaPage: UInt64, gpaPage: UInt64) {
    self.device = device
    self.iovaPage = iovaPage
    self.gpaPage = gpaPage
  }
}
