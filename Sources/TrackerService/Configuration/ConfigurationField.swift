/// One value of a configuration: of a VM, or of one of its devices, both by number.
public struct ConfigurationField: Sendable, Hashable {
  public let vm: Int
  /// Nil for what belongs to the VM itself.
  public let device: Int?
  public let key: ConfigurationKey

  public init(vm: Int, device: Int? = nil, _ key: ConfigurationKey) {
    self.vm = vm
    self.device = device
    self.key = key
  }
}
