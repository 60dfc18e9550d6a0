import TrackerService

/// The configuration in effect as a file, with everything said that has a default: read again it
/// gives the same.
enum ConfigurationText {
  static func of(_ vms: [VMConfiguration]) -> String {
    vms.map(text).joined(separator: "\n\n")
  }

  private static func text(_ vm: VMConfiguration) -> String {
    var lines = ["[[vm]]", "name = \(quoted(vm.name))", "companion = \(quoted(vm.companion))"]
    if let peer = vm.peer { lines.append("peer = \(quoted(peer))") }
    if let observe = vm.observe { lines.append("observe = \(quoted(observe))") }
    lines.append("strict = \(vm.isStrict)")
    lines.append("sync-period = \(vm.syncPeriodMilliseconds)")
    if !vm.omissions.isEmpty {
      let names = vm.omissions.map(\.rawValue).sorted().map(quoted)
      lines.append("break = [\(names.joined(separator: ", "))]")
    }
    for device in vm.devices {
      lines += [
        "", "[[vm.device]]", "name = \(quoted(device.name))", "vmm = \(quoted(device.vmmSocket))",
        "server = \(quoted(device.serverSocket))", "way = \(quoted(device.way.rawValue))",
      ]
    }
    return lines.joined(separator: "\n")
  }

  /// A basic string. Control characters are not in a configuration that was checked.
  private static func quoted(_ text: String) -> String {
    "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
  }
}
