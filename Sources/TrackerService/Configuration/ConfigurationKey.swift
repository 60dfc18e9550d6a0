/// The names of what can be said about a VM and a device, as a file has them.
public enum ConfigurationKey: String, Sendable, Hashable, CaseIterable {
  case vm, device
  case name, companion, peer, observe, strict
  case syncPeriod = "sync-period"
  case omission = "break"
  case way, vmm, server

  /// At the head of a file.
  public static let ofFile: [Self] = [.vm]
  /// In a table `[[vm]]`.
  public static let ofVM: [Self] = [
    .name, .companion, .peer, .observe, .strict, .syncPeriod, .omission, .way, .device,
  ]
  /// In a table `[[vm.device]]`.
  public static let ofDevice: [Self] = [.name, .vmm, .server, .way]

  /// The option of the command line that says the same. What belongs to a device is all said by
  /// `--device`, but for the way.
  public var option: String {
    switch self {
    case .vm, .name: "--vm"
    case .device, .vmm, .server: "--device"
    default: "--\(rawValue)"
    }
  }
}
