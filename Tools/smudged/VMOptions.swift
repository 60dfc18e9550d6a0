import ArgumentParser
import TrackerService

/// What is said about VMs: one by options, or any number in a file.
struct VMOptions: ParsableArguments {
  @Option(help: "Read everything about VMs from this TOML file.")
  var config: String?

  @Option(help: "The VM's name in the log and in the status.")
  var vm: String?

  @Option(
    help: ArgumentHelp(
      "A device: where the VMM finds it, and where its server listens. Once for each device.",
      valueName: "[name:]vmm=server"))
  var device: [String] = []

  @Option(help: "The companion's socket, where the VMM finds it.")
  var companion: String?

  @Option(
    help: """
      How it is known what devices wrote: auto (the best the server can do), log (it keeps a DMA \
      log), messages (its DMA goes by message), everything (all that is mapped writable).
      """)
  var way: String?

  @Option(
    help: "The service of the destination, for the state of devices: unix:PATH, tcp:HOST:PORT.")
  var peer: String?

  @Option(help: "Give the status at this socket.")
  var observe: String?

  @Flag(help: "Refuse a migration while a mapping has no place in the VM's RAM.")
  var strict = false

  @Option(help: "Milliseconds between syncs while the VMM logs, 1 to 60000; 100 if not given.")
  var syncPeriod: Int?

  @Option(
    name: .customLong("break"),
    help: "Leave a step out, to see that it is missed: final-sync, late-lookup or unmap.")
  var omissions: [String] = []

  /// - Throws: what is wrong, by option or by line.
  func configurations() throws(ConfigurationError) -> [VMConfiguration] {
    if let config {
      if let option = givenOption {
        throw ConfigurationError(.option(option), .besideFile)
      }
      return try ConfigurationFile.read(config)
    }
    guard givenOption != nil else { throw ConfigurationError(.option("--vm"), .noVM) }
    let vms = [try configuration()]
    try VMConfiguration.check(
      vms, whole: .option("--vm"), place: ConfigurationPlace.option(of:))
    return vms
  }

  /// One of those that a file replaces.
  private var givenOption: String? {
    let given: [(isGiven: Bool, option: String)] = [
      (vm != nil, "--vm"), (!device.isEmpty, "--device"), (companion != nil, "--companion"),
      (way != nil, "--way"), (peer != nil, "--peer"), (observe != nil, "--observe"),
      (strict, "--strict"), (syncPeriod != nil, "--sync-period"), (!omissions.isEmpty, "--break"),
    ]
    return given.first(where: \.isGiven)?.option
  }

  private func configuration() throws(ConfigurationError) -> VMConfiguration {
    guard let vm else { throw ConfigurationError(.option("--vm"), .missing(.name)) }
    guard let companion else {
      throw ConfigurationError(.option("--companion"), .missing(.companion))
    }
    var way = DeviceWay.automatic
    if let text = self.way { way = try ChosenValue.read(text, .way, .option("--way")) }
    var result = VMConfiguration(
      name: vm, companion: companion, peer: peer, observe: observe, isStrict: strict)
    for (index, text) in device.enumerated() {
      guard let device = DeviceArgument(text) else {
        throw ConfigurationError(.option("--device"), .badDevice(text))
      }
      result.devices.append(
        DeviceConfiguration(
          name: device.name ?? DeviceConfiguration.defaultName(index), vmmSocket: device.vmm,
          serverSocket: device.server, way: way))
    }
    if let syncPeriod { result.syncPeriodMilliseconds = syncPeriod }
    for text in omissions {
      result.omissions.insert(try ChosenValue.read(text, .omission, .option("--break")))
    }
    return result
  }
}

/// A value that is one of few names.
enum ChosenValue {
  static func read<Value: RawRepresentable<String> & CaseIterable>(
    _ text: String, _ key: ConfigurationKey, _ place: ConfigurationPlace
  ) throws(ConfigurationError) -> Value {
    guard let value = Value(rawValue: text) else {
      throw ConfigurationError(
        place, .unknownValue(key, value: text, known: Value.allCases.map(\.rawValue)))
    }
    return value
  }
}
