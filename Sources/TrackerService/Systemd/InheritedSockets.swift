import Locking

/// Sockets that the service manager opened for this process: `sd_listen_fds(3)`, by socket
/// activation. Each is handed out once, by its name (`FileDescriptorName=` of the socket unit) or
/// by the path it is bound to.
public final class InheritedSockets: Sendable {
  struct Entry: Equatable {
    let name: String
    let descriptor: Int32
  }
  /// SD_LISTEN_FDS_START.
  static let first: Int32 = 3
  /// The name of sockets that were given none.
  static let unnamed = "unknown"
  /// Far above what a process may have open.
  private static let countMax = 4_096

  private let entries: Mutex<[Entry]>

  /// None.
  public init() { entries = Mutex([]) }

  init(_ entries: [Entry]) { self.entries = Mutex(entries) }

  /// Those of this process. From here on they are closed on exec, and the variables are removed.
  /// None where the variables are not set, or meant for another process.
  /// - Precondition: no other thread runs yet, and this was not called before.
  public static func take() throws(ConfigurationError) -> InheritedSockets {
    let names = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]
    let values = names.map(ServiceEnvironment.value)
    names.forEach(ServiceEnvironment.remove)
    let found = try read(
      pid: values[0], count: values[1], names: values[2], own: SystemdCalls.processID)
    for entry in found where !SystemdCalls.closeOnExec(entry.descriptor) {
      throw ConfigurationError(
        .variable("LISTEN_FDS"),
        .badInheritance(
          value: values[1] ?? "", reason: "descriptor \(entry.descriptor) is not open"))
    }
    return InheritedSockets(found)
  }

  /// What the variables say.
  static func read(
    pid: String?, count: String?, names: String?, own: Int32
  ) throws(ConfigurationError) -> [Entry] {
    guard let pid, let count else { return [] }
    func refusal(_ variable: String, _ value: String, _ reason: String) -> ConfigurationError {
      ConfigurationError(.variable(variable), .badInheritance(value: value, reason: reason))
    }
    guard let wanted = Int32(pid), wanted > 0 else {
      throw refusal("LISTEN_PID", pid, "it is no process")
    }
    // Inherited from a parent that did not clean up.
    guard wanted == own else { return [] }
    guard let number = Int(count), (0...countMax).contains(number) else {
      throw refusal("LISTEN_FDS", count, "it is not a number from 0 to \(countMax)")
    }
    guard let names else {
      return (0..<number).map { Entry(name: unnamed, descriptor: first + Int32($0)) }
    }
    let parts = names.split(separator: ":", omittingEmptySubsequences: false)
    // No name of no socket is one empty part.
    guard parts.count == number || (number == 0 && names.isEmpty) else {
      throw refusal("LISTEN_FDNAMES", names, "\(parts.count) names for \(number) sockets")
    }
    return (0..<number).map {
      Entry(name: String(parts[$0]), descriptor: first + Int32($0))
    }
  }

  /// The first socket of that name that was not handed out yet. It is the caller's.
  public func take(named name: String) -> Int32? { take { $0.name == name } }

  /// The first socket bound to that path that was not handed out yet. It is the caller's.
  public func take(boundTo path: String) -> Int32? {
    take { SystemdCalls.boundPath($0.descriptor) == path }
  }

  /// Names of sockets that were not handed out: nothing will ever answer there.
  public var names: [String] { entries.withLock { $0.map(\.name) } }

  private func take(_ isMeant: (Entry) -> Bool) -> Int32? {
    entries.withLock { entries in
      guard let index = entries.firstIndex(where: isMeant) else { return nil }
      return entries.remove(at: index).descriptor
    }
  }
}
