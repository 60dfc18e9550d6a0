import TrackerService

/// Where a value stands in a file: `vm[1].device[0].way`.
struct KeyPath: Hashable {
  struct Part: Hashable {
    var key: String
    /// Of a list of tables; nil for what is none.
    var index: Int?
  }
  var parts: [Part] = []

  init() {}

  init(_ field: ConfigurationField) {
    self = KeyPath().adding(.vm, field.vm)
    if let device = field.device { self = adding(.device, device) }
    self = self + field.key
  }

  func adding(_ key: String, _ index: Int? = nil) -> KeyPath {
    var path = self
    path.parts.append(Part(key: key, index: index))
    return path
  }

  func adding(_ key: ConfigurationKey, _ index: Int) -> KeyPath { adding(key.rawValue, index) }

  static func + (path: KeyPath, key: ConfigurationKey) -> KeyPath { path.adding(key.rawValue) }

  /// As a header of the file has it, without numbers.
  func header(_ key: ConfigurationKey) -> String {
    (parts.map(\.key) + [key.rawValue]).joined(separator: ".")
  }

  /// What it lies in: the list for a table of one, the table for a key.
  var enclosing: KeyPath? {
    guard var last = parts.last else { return nil }
    var path = self
    path.parts.removeLast()
    if last.index != nil {
      last.index = nil
      path.parts.append(last)
    }
    return path
  }
}
