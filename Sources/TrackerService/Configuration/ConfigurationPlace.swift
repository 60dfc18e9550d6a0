/// Where something was said, so that whoever has to change it finds it.
public enum ConfigurationPlace: Sendable, Hashable, CustomStringConvertible {
  /// An option of the command line, with its dashes.
  case option(String)
  /// A line of a file, counted from 1; nil for the file as a whole.
  case file(path: String, line: Int?)
  /// A variable of the environment.
  case variable(String)

  /// The option that says what a field holds.
  public static func option(of field: ConfigurationField) -> Self {
    let isWholeDevice = field.device != nil && field.key == .name
    return .option(isWholeDevice ? ConfigurationKey.device.option : field.key.option)
  }

  public var description: String {
    switch self {
    case .option(let option): option
    case .file(let path, let line?): "\(LogText.escaped(path)) line \(line)"
    case .file(let path, nil): LogText.escaped(path)
    case .variable(let name): "environment variable \(name)"
    }
  }
}
