/// Why the service does not start: what was configured cannot be meant. Nothing was begun.
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
  public let place: ConfigurationPlace
  public let problem: Problem

  public init(_ place: ConfigurationPlace, _ problem: Problem) {
    self.place = place
    self.problem = problem
  }

  public enum Problem: Hashable, Sendable {
    // of values
    case noVM
    case missing(ConfigurationKey)
    case empty(ConfigurationKey)
    case controlCharacter(ConfigurationKey, value: String)
    case nameUsedTwice(String)
    case pathTooLong(String)
    case pathUsedTwice(String, also: ConfigurationPlace)
    case periodOutOfRange(Int)
    case badPeer(String, reason: String)
    // of a file
    case unreadable(reason: String)
    case tooLarge(maxByteCount: Int)
    case notText
    case notTOML(reason: String)
    case unknownKey(String, known: [ConfigurationKey])
    case wrongType(ConfigurationKey, found: String, wanted: String)
    case unknownValue(ConfigurationKey, value: String, known: [String])
    // of the command line
    case badDevice(String)
    case besideFile
    case unknownFormat(String, known: [String])
    // of the environment
    case badInheritance(value: String, reason: String)
  }

  public var description: String { "\(place): \(problem.valueText ?? problem.sourceText)" }
}

extension ConfigurationError.Problem {
  fileprivate var valueText: String? {
    switch self {
    case .noVM: return "there is no VM; give at least one, with a name and a companion's socket"
    case .missing(let key): return "\(key.rawValue) is missing; add it"
    case .empty(let key): return "\(key.rawValue) is empty; give it a value"
    case .controlCharacter(let key, let value):
      return "\(key.rawValue) \"\(LogText.escaped(value))\" has a control character; leave it out"
    case .nameUsedTwice(let name):
      return "the name \"\(LogText.escaped(name))\" is used twice; choose another for one of them"
    case .pathTooLong(let path):
      return "the path \"\(LogText.escaped(path))\" has \(path.utf8.count) bytes, and a socket's"
        + " has at most \(VMConfiguration.socketPathByteCountMax); choose a shorter one"
    case .pathUsedTwice(let path, let also):
      return "the socket \"\(LogText.escaped(path))\" is used already, by \(also); each needs a"
        + " path of its own"
    case .periodOutOfRange(let period):
      let range = VMConfiguration.syncPeriodsMilliseconds
      return "a sync period of \(period) ms; say \(range.lowerBound) to \(range.upperBound)"
    case .badPeer(let peer, let reason):
      return "the peer \"\(LogText.escaped(peer))\" cannot be reached by a connection: \(reason);"
        + " say unix:PATH or tcp:HOST:PORT"
    default: return nil
    }
  }

  fileprivate var sourceText: String {
    switch self {
    case .unreadable(let reason): return "it cannot be read: \(reason); name a readable file"
    case .tooLarge(let maxByteCount):
      return "it has more than \(maxByteCount) bytes; a configuration is shorter"
    case .notText: return "it is not text in UTF-8, or contains a NUL byte; rewrite it as TOML"
    case .notTOML(let reason): return "it is not TOML: \(LogText.escaped(reason)); correct it"
    case .unknownKey(let key, let known):
      let names = known.map(\.rawValue)
      return "unknown key \"\(LogText.escaped(key))\"; \(Self.advice(key, names))"
    case .wrongType(let key, let found, let wanted):
      return "\(key.rawValue) is \(found) and has to be \(wanted); change it"
    case .unknownValue(let key, let value, let known):
      return "\(key.rawValue) \"\(LogText.escaped(value))\" is unknown; "
        + Self.advice(value, known)
    case .badDevice(let text):
      return "\"\(LogText.escaped(text))\" is not [NAME:]VMM_SOCKET=SERVER_SOCKET; write it so, or"
        + " use a file where a path contains an equals sign"
    case .besideFile:
      return "it cannot stand beside --config; say it in the file, or leave --config out"
    case .unknownFormat(let value, let known):
      return "\"\(LogText.escaped(value))\" is no format of the log; \(Self.advice(value, known))"
    case .badInheritance(let value, let reason):
      return "\"\(LogText.escaped(value))\": \(reason); start the service by a socket unit, or"
        + " without the variable"
    default: return ""
    }
  }

  /// The nearest name, or all of them.
  private static func advice(_ text: String, _ names: [String]) -> String {
    if let nearest = NearestName.of(text, in: names) { return "did you mean \"\(nearest)\"?" }
    return "use one of: \(names.joined(separator: ", "))"
  }
}
