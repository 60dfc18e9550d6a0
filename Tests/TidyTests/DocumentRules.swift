import Foundation

/// What documents say about the code, held against the code. Each rule gives what is wrong.
enum DocumentRules {
  /// Numbered sections 1 to `count`, each with tests that hold it and tests that can fail, all of
  /// which exist.
  static func invariants(_ document: Document, count: Int, tests: [SourceFile]) -> [String] {
    let known = testNames(tests)
    let numbered = document.sections.filter { $0.title.contains(#/^\d+\. /#) }
    var wrong: [String] = []
    if numbered.count != count { wrong.append("\(numbered.count) invariants") }
    for (index, section) in numbered.enumerated() {
      if !section.title.hasPrefix("\(index + 1). ") { wrong.append("order: \(section.title)") }
      for kind in ["holds", "can fail"] {
        let rows = section.rows(kind)
        if rows.isEmpty { wrong.append("\(section.title): no test that \(kind)") }
        for row in rows {
          guard row.count == 2, row[1].hasPrefix("`"), row[1].hasSuffix("`") else {
            wrong.append("\(section.title): \(row)")
            continue
          }
          let name = String(row[1].dropFirst().dropLast())
          if known[row[0]]?.contains(name) != true { wrong.append("\(row[0]): \(name)") }
        }
      }
    }
    return wrong
  }

  /// The tests of each module of Tests, by their sentences.
  private static func testNames(_ files: [SourceFile]) -> [String: Set<String>] {
    var names: [String: Set<String>] = [:]
    for file in files {
      let parts = file.path.split(separator: "/")
      guard parts.count > 2, parts[0] == "Tests" else { continue }
      for line in file.lines {
        guard let match = line.firstMatch(of: /func `([^`]+)`\(/) else { continue }
        names[String(parts[1]), default: []].insert(String(match.1))
      }
    }
    return names
  }

  /// Public types of errors, and cases of them, that have no section or no name in it.
  static func missingErrors(_ document: Document, sources: [SourceFile]) -> [String] {
    var wrong: [String] = []
    for file in sources {
      for (type, cases) in errors(in: file) {
        guard let section = document.sections.first(where: { $0.title == "`\(type)`" }) else {
          wrong.append(type)
          continue
        }
        let names = section.names
        wrong += cases.filter { !names.contains(Substring($0)) }.map { "\(type).\($0)" }
      }
    }
    return wrong
  }

  /// Sections about errors that are no more, and names in their tables that are no case.
  static func strayErrors(_ document: Document, sources: [SourceFile]) -> [String] {
    let known = Dictionary(
      sources.flatMap { errors(in: $0) }, uniquingKeysWith: { first, _ in first })
    return document.sections.flatMap { section -> [String] in
      guard section.title.hasPrefix("`") else { return [] }
      let type = section.title.filter { $0 != "`" }
      guard let cases = known[type] else { return [type] }
      let rows = section.lines.compactMap { $0.firstMatch(of: /^\| (`[^|]*`) \|/)?.1 }
      return rows.flatMap { $0.matches(of: /`(\w+)`/).map { String($0.1) } }
        .filter { !cases.contains($0) }.map { "\(type).\($0)" }
    }
  }

  /// Answers that are no `Error` and say why something was not done all the same.
  private static let answers: Set<Substring> = ["MigrationBlocker", "TraceDamage"]

  /// Each public type of errors with the cases it and the types in it have.
  private static func errors(in file: SourceFile) -> [(type: String, cases: [String])] {
    var found: [(type: String, cases: [String])] = []
    var isInside = false
    for line in file.lines {
      if let match = line.firstMatch(of: /^public (?:enum|struct) (\w+)(.*)/) {
        isInside = match.2.contains(/[:,] Error\b/) || answers.contains(match.1)
        if isInside { found.append((String(match.1), [])) }
      } else if line.hasPrefix("}") {
        isInside = false
      } else if isInside, let match = line.firstMatch(of: /^ +case (\w+)(?:\(.*)?(?: = .*)?$/) {
        found[found.count - 1].cases.append(String(match.1))
      }
    }
    return found
  }

  /// Lines in which the README's example is not the one that is compiled.
  static func example(_ readme: Document, compiled: String) -> [String] {
    let shown = readme.code("swift").joined(separator: "\n") + "\n"
    return shown == compiled ? [] : ["the README's example is not the one that is compiled"]
  }

  /// Links to files of the repository that are not there.
  static func brokenLinks(_ text: String, in folder: String) -> [String] {
    text.matches(of: /\]\(([^)#:]+)\)/).map { String($0.1) }.filter { link in
      let file = SourceTree.root.appendingPathComponent(folder).appendingPathComponent(link)
      return !FileManager.default.fileExists(atPath: file.path)
    }
  }
}
