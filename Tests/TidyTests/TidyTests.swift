import Foundation
import Testing

/// The house rules of DESIGN, held by machine. Each rule is a function over lines, so that the
/// planted faults at the end can show that it fires.
@Suite struct TidyTests {
  static let sources = SourceTree.swiftFiles(under: ["Sources", "Tools", "Tests"])

  @Test func `there is something to check`() {
    #expect(Self.sources.count > 10)
  }

  @Test func `no line is longer than 100 columns`() {
    for file in Self.sources { #expect(Rules.longLines(file) == [], "\(file.path)") }
  }

  @Test func `no file is longer than 600 lines and the median is under 150`() {
    for file in Self.sources { #expect(file.lines.count <= 600, "\(file.path)") }
    let sizes = Self.sources.map(\.lines.count).sorted()
    #expect(sizes[sizes.count / 2] < 150)
  }

  @Test func `no function is longer than 70 lines`() {
    for file in Self.sources { #expect(Rules.longFunctions(file) == [], "\(file.path)") }
  }

  @Test func `unsafe is said only in files named for it`() {
    for file in Self.sources { #expect(Rules.unsafeLines(file) == [], "\(file.path)") }
  }

  @Test func `imports go down only`() {
    for file in Self.sources { #expect(Rules.forbiddenImports(file) == [], "\(file.path)") }
  }

  @Test func `nothing is left for later`() {
    for file in Self.sources { #expect(Rules.leftForLater(file) == [], "\(file.path)") }
  }

  @Test func `each rule fires on a planted fault`() {
    let long = SourceFile(
      path: "Sources/PageBitmap/X.swift",
      text: String(repeating: "x", count: 101) + "\nimport IOVAMapping\nimport Foundation\n"
        + "let a = un" + "safe b\n// FIX" + "ME later\nfunc f() {\n"
        + String(repeating: "  g()\n", count: 80) + "}\n")
    #expect(Rules.longLines(long) == [1])
    #expect(Rules.forbiddenImports(long) == ["IOVAMapping", "Foundation"])
    #expect(Rules.unsafeLines(long) == [4])
    #expect(Rules.leftForLater(long) == [5])
    #expect(Rules.longFunctions(long) == [6])
  }
}
