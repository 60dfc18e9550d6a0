import TrackerService

/// A VM that is served.
protocol RunningVM: AnyObject {
  /// Ends it in good order; returns when nothing of it runs any more.
  func end()
}

extension VMService: RunningVM {}

/// Starts to serve a VM: when it returns, everything of it listens.
func startVM(
  _ configuration: VMConfiguration, _ sockets: InheritedSockets, _ log: ServiceLog
) throws -> any RunningVM {
  // Better refused than taken for something that is done.
  if configuration.peer != nil { throw NotThere(key: .peer) }
  if configuration.observe != nil { throw NotThere(key: .observe) }
  let name = configuration.name
  return try VMService(configuration) { log.write($0, vm: name, $1) }
}

/// What can be said in a configuration and is not there yet.
struct NotThere: Error, CustomStringConvertible {
  let key: ConfigurationKey
  var description: String {
    "\(key.rawValue) is not there in this version; leave it out: nothing listens"
  }
}
