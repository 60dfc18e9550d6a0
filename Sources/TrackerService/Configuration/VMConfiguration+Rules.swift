import MigrationTransport

extension VMConfiguration {
  /// Looks at all VMs of a process, in their order; the first thing that is wrong is thrown.
  ///
  /// A VM needs a name and a companion; a device is not needed, since a VM that only migrates its
  /// own RAM may get one later. Every socket path is used once, over all VMs.
  /// - Parameter place: where a field was said.
  public static func check(
    _ vms: [VMConfiguration], whole: ConfigurationPlace,
    place: @escaping (ConfigurationField) -> ConfigurationPlace
  ) throws(ConfigurationError) {
    guard !vms.isEmpty else { throw ConfigurationError(whole, .noVM) }
    var names: Set<String> = []
    var paths: [String: ConfigurationPlace] = [:]
    for (index, vm) in vms.enumerated() {
      let at = { place(ConfigurationField(vm: index, $0)) }
      try checkName(vm.name, among: &names, at(.name))
      try checkPath(vm.companion, .companion, among: &paths, at(.companion))
      if let observe = vm.observe { try checkPath(observe, .observe, among: &paths, at(.observe)) }
      if let peer = vm.peer { try checkPeer(peer, at(.peer)) }
      guard syncPeriodsMilliseconds.contains(vm.syncPeriodMilliseconds) else {
        throw ConfigurationError(at(.syncPeriod), .periodOutOfRange(vm.syncPeriodMilliseconds))
      }
      var deviceNames: Set<String> = []
      for (number, device) in vm.devices.enumerated() {
        let at = { place(ConfigurationField(vm: index, device: number, $0)) }
        try checkName(device.name, among: &deviceNames, at(.name))
        try checkPath(device.vmmSocket, .vmm, among: &paths, at(.vmm))
        try checkPath(device.serverSocket, .server, among: &paths, at(.server))
      }
    }
  }

  private static func checkName(
    _ name: String, among names: inout Set<String>, _ place: ConfigurationPlace
  ) throws(ConfigurationError) {
    try checkText(name, .name, place)
    guard names.insert(name).inserted else { throw ConfigurationError(place, .nameUsedTwice(name)) }
  }

  private static func checkPath(
    _ path: String, _ key: ConfigurationKey, among paths: inout [String: ConfigurationPlace],
    _ place: ConfigurationPlace
  ) throws(ConfigurationError) {
    try checkText(path, key, place)
    guard path.utf8.count <= socketPathByteCountMax else {
      throw ConfigurationError(place, .pathTooLong(path))
    }
    let plain = plainPath(path)
    if let also = paths[plain] { throw ConfigurationError(place, .pathUsedTwice(path, also: also)) }
    paths[plain] = place
  }

  private static func checkPeer(
    _ peer: String, _ place: ConfigurationPlace
  ) throws(ConfigurationError) {
    try checkText(peer, .peer, place)
    let address: MigrationAddress
    do throws(AddressError) { address = try MigrationAddress(peer) } catch {
      throw ConfigurationError(place, .badPeer(peer, reason: error.reason))
    }
    guard address.canConnectAgain else {
      throw ConfigurationError(place, .badPeer(peer, reason: "it is no socket's address"))
    }
  }

  private static func checkText(
    _ text: String, _ key: ConfigurationKey, _ place: ConfigurationPlace
  ) throws(ConfigurationError) {
    guard !text.isEmpty else { throw ConfigurationError(place, .empty(key)) }
    guard !text.unicodeScalars.contains(where: LogText.isControl) else {
      throw ConfigurationError(place, .controlCharacter(key, value: text))
    }
  }

  /// The path without repeated slashes and `.`, so that one socket does not pass for two. Links and
  /// `..` are for the file system to resolve, and are left alone.
  static func plainPath(_ path: String) -> String {
    let parts = path.split(separator: "/").filter { $0 != "." }
    return (path.hasPrefix("/") ? "/" : "") + parts.joined(separator: "/")
  }
}
