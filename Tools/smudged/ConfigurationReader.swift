import TOMLKit
import TrackerService

/// From the tables of a file to configurations. What it does not know it refuses, by its line.
struct ConfigurationReader {
  let path: String
  let lines: KeyLines

  func vms(of file: TOMLTable) throws(ConfigurationError) -> [VMConfiguration] {
    try checkKeys(file, KeyPath(), ConfigurationKey.ofFile)
    var vms: [VMConfiguration] = []
    for (table, path) in try tables(file, .vm, KeyPath()) { vms.append(try vm(table, path)) }
    return vms
  }

  private func vm(_ table: TOMLTable, _ path: KeyPath) throws(ConfigurationError) -> VMConfiguration
  {
    try checkKeys(table, path, ConfigurationKey.ofVM)
    var result = VMConfiguration(
      name: try wantedText(table, .name, path), companion: try wantedText(table, .companion, path),
      peer: try text(table, .peer, path), observe: try text(table, .observe, path))
    if let value = table[ConfigurationKey.strict.rawValue] {
      guard let isStrict = value.bool else {
        throw wrongType(value, .strict, path, wanted: "true or false")
      }
      result.isStrict = isStrict
    }
    if let value = table[ConfigurationKey.syncPeriod.rawValue] {
      guard let period = value.int else {
        throw wrongType(value, .syncPeriod, path, wanted: "a whole number of milliseconds")
      }
      result.syncPeriodMilliseconds = period
    }
    result.omissions = try omissions(table, path)
    let way: DeviceWay = try chosen(table, .way, path) ?? .automatic
    for (index, (table, path)) in try tables(table, .device, path).enumerated() {
      try checkKeys(table, path, ConfigurationKey.ofDevice)
      result.devices.append(
        DeviceConfiguration(
          name: try text(table, .name, path) ?? DeviceConfiguration.defaultName(index),
          vmmSocket: try wantedText(table, .vmm, path),
          serverSocket: try wantedText(table, .server, path),
          way: try chosen(table, .way, path) ?? way))
    }
    return result
  }

  /// One name, or a list of them.
  private func omissions(
    _ table: TOMLTable, _ path: KeyPath
  ) throws(ConfigurationError) -> Set<ServiceOmission> {
    guard let value = table[ConfigurationKey.omission.rawValue] else { return [] }
    let elements = value.array.map { array in (0..<array.count).map { array[$0] } } ?? [value]
    var result: Set<ServiceOmission> = []
    for element in elements {
      guard let text = element.string else {
        throw wrongType(element, .omission, path, wanted: "text, or a list of texts")
      }
      result.insert(try ChosenValue.read(text, .omission, place(path + .omission)))
    }
    return result
  }

  /// Tables `[[key]]`, each with where it stands. One `[key]` is as good as a list of one.
  private func tables(
    _ table: TOMLTable, _ key: ConfigurationKey, _ path: KeyPath
  ) throws(ConfigurationError) -> [(TOMLTable, KeyPath)] {
    guard let value = table[key.rawValue] else { return [] }
    if let one = value.table { return [(one, path.adding(key, 0))] }
    let wanted = "tables [[\(path.header(key))]]"
    guard let array = value.array else { throw wrongType(value, key, path, wanted: wanted) }
    var result: [(TOMLTable, KeyPath)] = []
    for index in 0..<array.count {
      guard let element = array[index].table else {
        throw wrongType(array[index], key, path, wanted: wanted)
      }
      result.append((element, path.adding(key, index)))
    }
    return result
  }

  private func wantedText(
    _ table: TOMLTable, _ key: ConfigurationKey, _ path: KeyPath
  ) throws(ConfigurationError) -> String {
    guard let text = try text(table, key, path) else {
      throw ConfigurationError(place(path), .missing(key))
    }
    return text
  }

  private func text(
    _ table: TOMLTable, _ key: ConfigurationKey, _ path: KeyPath
  ) throws(ConfigurationError) -> String? {
    guard let value = table[key.rawValue] else { return nil }
    guard let text = value.string else { throw wrongType(value, key, path, wanted: "text") }
    return text
  }

  private func chosen<Value: RawRepresentable<String> & CaseIterable>(
    _ table: TOMLTable, _ key: ConfigurationKey, _ path: KeyPath
  ) throws(ConfigurationError) -> Value? {
    guard let text = try text(table, key, path) else { return nil }
    return try ChosenValue.read(text, key, place(path + key))
  }

  private func checkKeys(
    _ table: TOMLTable, _ path: KeyPath, _ known: [ConfigurationKey]
  ) throws(ConfigurationError) {
    let names = Set(known.map(\.rawValue))
    // The first in the file, so that a reader goes from top to bottom.
    let unknown = table.keys.filter { !names.contains($0) }
      .map { (name: $0, line: lines.line(of: path.adding($0)) ?? 0) }
      .min { ($0.line, $0.name) < ($1.line, $1.name) }
    guard let unknown else { return }
    throw ConfigurationError(
      place(path.adding(unknown.name)), .unknownKey(unknown.name, known: known))
  }

  private func wrongType(
    _ value: any TOMLValueConvertible, _ key: ConfigurationKey, _ path: KeyPath, wanted: String
  ) -> ConfigurationError {
    let found =
      switch value.type {
      case .string: "text"
      case .int: "a whole number"
      case .double: "a number with a point"
      case .bool: "true or false"
      case .array: "a list"
      case .table: "a table"
      case .date, .time, .dateTime: "a date or time"
      }
    return ConfigurationError(place(path + key), .wrongType(key, found: found, wanted: wanted))
  }

  private func place(_ path: KeyPath) -> ConfigurationPlace {
    .file(path: self.path, line: lines.line(of: path))
  }
}
