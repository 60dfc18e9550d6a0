import Foundation
import Testing

/// The house rules of DESIGN, held by machine. Each rule is a function over lines, so that the
/// planted faults at the end can show that it fires.
@Suite struct TidyTests {
  static let sources = SourceTree.swiftFiles(under: ["Sources", "Tools", "Tests"])

  static let cSources = SourceTree.cFiles(under: ["Sources", "Tools"])
  /// Programs that no target builds: users of the C library.
  static let cLibrary = SourceTree.cFiles(under: ["Tests/CLibrary"])
  static let scripts = SourceTree.scripts(under: ["Tools", ".ci", "Tests/CLibrary"])

  @Test func `there is something to check`() {
    #expect(Self.sources.count > 10)
    #expect(Self.cSources.count > 5)
    #expect(Set(Self.scripts.map(\.path)).isSuperset(of: [".ci/run", "Tools/run", "Tools/test"]))
  }

  @Test func `no line is longer than 100 columns`() {
    for file in Self.sources + Self.cSources + Self.cLibrary + Self.scripts {
      #expect(Rules.longLines(file) == [], "\(file.path)")
    }
  }

  @Test func `scripts can be started and stop at their first failure`() {
    for file in Self.scripts {
      #expect(Rules.scriptFaults(file) == [], "\(file.path)")
      #expect(SourceTree.isExecutable(file), "\(file.path)")
    }
  }

  @Test func `no test is one that Tools/test does not run`() {
    for file in Self.sources { #expect(Rules.importsXCTest(file) == false, "\(file.path)") }
  }

  @Test func `every source and every test belongs to a target`() throws {
    let paths = (Self.sources + Self.cSources).map(\.path)
    #expect(try ManifestRules.unbuilt(paths, manifest: SourceTree.manifest()) == [])
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
    for file in Self.sources + Self.cSources + Self.cLibrary + Self.scripts {
      #expect(Rules.leftForLater(file) == [], "\(file.path)")
    }
  }

  @Test func `the library exports what its header declares`() throws {
    let declared = ExportedNames.declared(
      try SourceTree.text(of: "Sources/CSmudge/include/smudge.h"))
    let exported = ExportedNames.exported(
      try SourceTree.text(of: "Tools/packaging/libsmudge.map"))
    #expect(declared.count > 30)
    #expect(exported == declared.sorted())
  }

  @Test func `a function that is declared and not exported is noticed`() {
    let header = """
      /* SMUDGE_API int smudge_in_a_comment(void); */
      SMUDGE_API int smudge_one(int a,
                                int b);
      SMUDGE_API const char *smudge_two(void);
      typedef int (*smudge_callback)(void);
      """
    let map = "SMUDGE_1.0 {\n  global:\n    smudge_one;\n  local:\n    *;\n};\n"
    #expect(ExportedNames.declared(header) == ["smudge_one", "smudge_two"])
    #expect(ExportedNames.exported(map) == ["smudge_one"])
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
    #expect(Rules.importsXCTest(long) == false)
    let old = SourceFile(path: "Tests/OldTests/X.swift", text: "@testable import XCTest\n")
    #expect(Rules.importsXCTest(old))
  }

  @Test func `a script that goes on after a failure is noticed`() {
    let script = SourceFile(path: "Tools/x", text: "#!/bin/sh\nset -e\nfalse\n")
    #expect(Rules.scriptFaults(script) == ["not started with bash", "goes on after a failure"])
  }

  @Test func `a folder of tests the manifest does not name is noticed`() {
    let manifest = """
      targets += module("Wide", ["Narrow"],
        tests: ["More"])
      targets += module("Bare", tests: nil)
      // targets += module("Gone")
      targets += ["CWide", "CBare"].map(cModule)
      targets += [tool("product", "folder", []), .testTarget(name: "Own", path: "Tests/Own")]
      """
    let built = [
      "Sources/Wide/A.swift", "Tests/WideTests/Deep/A.swift", "Sources/Bare/A.swift",
      "Sources/CWide/a.c", "Sources/CBare/include/a.h", "Tools/folder/A.swift",
      "Tests/Own/A.swift",
    ]
    let unbuilt = [
      "Tests/BareTests/A.swift", "Sources/Gone/A.swift", "Tests/GoneTests/A.swift",
      "Tests/WideTest/A.swift", "Tests/OwnTests/A.swift", "Tests/A.swift", "Tools/product/A.swift",
    ]
    #expect(ManifestRules.unbuilt(built + unbuilt, manifest: manifest) == unbuilt)
  }
}
