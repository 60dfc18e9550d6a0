import Foundation

/// A document of Docs, by its sections of the second level.
struct Document {
  struct Section {
    let title: Substring
    var lines: [Substring] = []
  }

  let text: String
  private(set) var sections: [Section] = []

  init(text: String) {
    self.text = text
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("## ") {
        sections.append(Section(title: line.dropFirst(3)))
      } else if !sections.isEmpty {
        sections[sections.count - 1].lines.append(line)
      }
    }
  }

  /// One of the repository; without sections when it is not there.
  init(named path: String) {
    let file = SourceTree.root.appendingPathComponent(path)
    self.init(text: (try? String(contentsOf: file, encoding: .utf8)) ?? "")
  }

  /// The lines of the first code block of a language.
  func code(_ language: String) -> [Substring] {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard let first = lines.firstIndex(of: "```\(language)"),
      let last = lines[(first + 1)...].firstIndex(of: "```")
    else { return [] }
    return Array(lines[(first + 1)..<last])
  }
}

extension Document.Section {
  /// Names in backticks.
  var names: Set<Substring> {
    Set(lines.flatMap { $0.matches(of: /`([^`]+)`/).map(\.1) })
  }

  /// The cells of each row of a table whose first cell is `kind`, that one left out.
  func rows(_ kind: String) -> [[String]] {
    lines.compactMap { line in
      guard line.hasPrefix("| \(kind) |") else { return nil }
      return line.split(separator: "|").dropFirst().map {
        $0.trimmingCharacters(in: .whitespaces)
      }
    }
  }
}
