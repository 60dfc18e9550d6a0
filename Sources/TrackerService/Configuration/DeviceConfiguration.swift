/// One vfio-user device of a VM.
public struct DeviceConfiguration: Sendable, Hashable {
  /// Its name in the log and in the status, unique in its VM.
  public var name: String
  /// The path of the socket where the VMM finds the device: the service listens there.
  public var vmmSocket: String
  /// The path of the socket where the device's server listens.
  public var serverSocket: String
  public var way: DeviceWay

  public init(
    name: String, vmmSocket: String, serverSocket: String, way: DeviceWay = .automatic
  ) {
    self.name = name
    self.vmmSocket = vmmSocket
    self.serverSocket = serverSocket
    self.way = way
  }

  /// The name of a device that was given none: by its number in its VM, counted from 0.
  public static func defaultName(_ index: Int) -> String { "device\(index)" }
}
