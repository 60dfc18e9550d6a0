import Foundation
import Testing

/// That the documents say what is so.
@Suite struct DocumentTests {
  static let tests = SourceTree.swiftFiles(under: ["Tests"])
  static let sources = SourceTree.swiftFiles(under: ["Sources"])

  @Test func `every test that INVARIANTS names exists`() {
    let document = Document(named: "Docs/INVARIANTS.md")
    #expect(DocumentRules.invariants(document, count: 10, tests: Self.tests) == [])
  }

  @Test func `ERRORS names every case of every public error, and no other`() {
    let document = Document(named: "Docs/ERRORS.md")
    #expect(DocumentRules.missingErrors(document, sources: Self.sources) == [])
    #expect(DocumentRules.strayErrors(document, sources: Self.sources) == [])
  }

  @Test func `the README shows the example that is compiled`() throws {
    let file = SourceTree.root.appendingPathComponent("Tests/ExampleTests/Machine.swift")
    let compiled = try String(contentsOf: file, encoding: .utf8)
    #expect(DocumentRules.example(Document(named: "README.md"), compiled: compiled) == [])
  }

  @Test func `EMBEDDING shows the program that is compiled and run`() throws {
    let file = SourceTree.root.appendingPathComponent("Tests/CLibrary/embed.c")
    let compiled = try String(contentsOf: file, encoding: .utf8)
    #expect(!compiled.isEmpty && Document(named: "Docs/EMBEDDING.md").text.contains(compiled))
  }

  @Test func `links between documents lead somewhere`() throws {
    let docs = SourceTree.root.appendingPathComponent("Docs")
    let names = FileManager.default.enumerator(atPath: docs.path)?.compactMap { $0 as? String }
    let documents = (names ?? []).filter { $0.hasSuffix(".md") }.map { "Docs/\($0)" }
    #expect(documents.count > 5)
    for path in documents + ["README.md"] {
      let folder = path.split(separator: "/").dropLast().joined(separator: "/")
      let text = Document(named: path).text
      #expect(DocumentRules.brokenLinks(text, in: folder) == [], "\(path)")
    }
  }

  @Test func `each rule fires on a planted fault`() {
    let tests = [
      SourceFile(path: "Tests/ATests/A.swift", text: "  @Test func `it holds`() {}\n")
    ]
    func invariants(_ text: String, count: Int = 1) -> Int {
      DocumentRules.invariants(Document(text: text), count: count, tests: tests).count
    }
    let holds = "| holds | ATests | `it holds` |\n"
    let fails = "| can fail | ATests | `it holds` |\n"
    #expect(invariants("## 1. A\n" + holds + fails) == 0)
    #expect(invariants("## 1. A\n" + holds + fails, count: 2) == 1)
    #expect(invariants("## 2. A\n" + holds + fails) == 1)
    #expect(invariants("## 1. A\n" + holds) == 1)
    #expect(invariants("## 1. A\n" + holds + "| can fail | BTests | `it holds` |\n") == 1)
    #expect(invariants("## 1. A\n| holds | ATests | `it held` |\n" + fails) == 1)

    let source = SourceFile(
      path: "Sources/A/A.swift",
      text: """
        public enum AError: Error, Hashable {
          case first(Int)
          case second
          var code: Int {
            switch self {
            case .first: 1
            }
          }
        }
        public enum Other {
          case third
        }
        """)
    func errors(_ text: String) -> [String] {
      let document = Document(text: text)
      return DocumentRules.missingErrors(document, sources: [source])
        + DocumentRules.strayErrors(document, sources: [source])
    }
    #expect(errors("## `AError`\n| `first`, `second` | x |\n") == [])
    #expect(errors("## `AError`\n| `first` | x |\n") == ["AError.second"])
    #expect(errors("## `AError`\n| `first`, `second`, `more` | x |\n") == ["AError.more"])
    #expect(errors("## `BError`\n") == ["AError", "BError"])

    let readme = Document(text: "a\n```swift\nlet a = 1\n```\n")
    #expect(DocumentRules.example(readme, compiled: "let a = 1\n") == [])
    #expect(DocumentRules.example(readme, compiled: "let a = 2\n").count == 1)
    #expect(DocumentRules.brokenLinks("[a](nowhere.md)", in: "Docs") == ["nowhere.md"])
  }
}
