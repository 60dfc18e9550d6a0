public import Foundation

/// The faults of the folder `entries`, one file for each module.
///
/// An entry begins with a line `fault NAME`. Lines that begin with two spaces and a key follow;
/// deeper ones go on with the value of the key above. A line that begins with `#` is a comment.
public enum FaultTable {
  public static func read(folder: URL) throws -> [PlantedFault] {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    var faults: [PlantedFault] = []
    for name in names where name.hasSuffix(".txt") {
      let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
      faults += try parse(text, of: name)
    }
    return faults
  }

  public static func parse(_ text: String, of file: String) throws -> [PlantedFault] {
    var faults: [PlantedFault] = []
    var entry: Entry?
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
      guard let word = words.first, !line.hasPrefix("#") else { continue }
      let rest = words.count > 1 ? words[1].trimmingCharacters(in: .whitespaces) : ""
      let depth = line.prefix { $0 == " " }.count
      switch depth {
      case 0 where word == "fault" && !rest.isEmpty:
        if let entry { faults.append(try entry.fault()) }
        entry = Entry(name: rest)
      case 2: entry?.begin(String(word), rest)
      case 3...: entry?.goOn(line.trimmingCharacters(in: .whitespaces))
      default: throw FaultTableError(description: "\(file):\(index + 1): what is \"\(line)\"?")
      }
    }
    if let entry { faults.append(try entry.fault()) }
    return faults
  }

  private struct Entry {
    let name: String
    var values: [String: String] = [:]
    var key = ""

    init(name: String) { self.name = name }

    mutating func begin(_ key: String, _ value: String) {
      self.key = key
      values[key] = value
    }

    mutating func goOn(_ more: String) {
      let value = values[key] ?? ""
      values[key] = value.isEmpty ? more : value + "\n" + more
    }

    func fault() throws -> PlantedFault {
      let kinds = [PlantedFault.Kind.value, .step, .text].filter { values[$0.rawValue] != nil }
      let known: Set = ["file", "value", "step", "text", "in", "with", "tests", "survives"]
      guard kinds.count == 1, let file = values["file"], let old = values[kinds[0].rawValue],
        let new = values["with"], let tests = values["tests"], !old.isEmpty, !tests.isEmpty,
        values.keys.allSatisfy(known.contains)
      else { throw FaultTableError(description: "fault \(name) lacks a line, or has an odd one") }
      return PlantedFault(
        name: name, file: file, kind: kinds[0], old: old, new: new, context: values["in"],
        tests: tests.split(whereSeparator: \.isWhitespace).map(String.init),
        survives: values["survives"]?.split(separator: "\n").joined(separator: " "))
    }
  }
}
