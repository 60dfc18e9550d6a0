import FaultTable
import Foundation
import Testing

/// That the table of planted faults fits the sources: `Tools/faults/run` takes long, and is not in
/// every run.
@Suite struct FaultTableTests {
  static func faults() throws -> [PlantedFault] {
    try FaultTable.read(folder: SourceTree.root.appendingPathComponent("Tools/faults/entries"))
  }

  @Test func `the text of each planted fault stands in its file once`() throws {
    var texts: [String: [UInt8]] = [:]
    for fault in try Self.faults() {
      let path = SourceTree.root.appendingPathComponent("Sources/\(fault.file)")
      let text = try texts[fault.file] ?? Array(Data(contentsOf: path))
      texts[fault.file] = text
      #expect(throws: Never.self) { try FaultPlace.find(fault, in: text) }
    }
  }

  @Test func `there are a hundred planted faults at least, in every module that has code`() throws {
    let faults = try Self.faults()
    #expect(faults.count >= 100)
    #expect(Set(faults.map(\.name)).count == faults.count)
    let sources = SourceTree.root.appendingPathComponent("Sources").path
    // Three are names of system libraries.
    let modules = Set(try FileManager.default.contentsOfDirectory(atPath: sources))
      .subtracting(["CJSON", "CNuma", "COpenSSL"])
    #expect(modules.subtracting(faults.map(\.module)) == [])
  }

  @Test func `each planted fault names targets and suites that exist`() throws {
    let files = SourceTree.swiftFiles(under: ["Tests"])
    for fault in try Self.faults() {
      for test in fault.tests {
        let parts = test.split(separator: ".")
        let folder = "Tests/\(parts[0])/"
        let isThere = files.contains { file in
          file.path.hasPrefix(folder)
            && (parts.count == 1
              || file.lines.contains { $0.contains("@Suite") && $0.contains(" \(parts[1]) {") })
        }
        #expect(isThere, "\(fault.name): \(test)")
      }
    }
  }

  @Test func `each rule of the table fires on a planted fault`() throws {
    func faults(_ entry: String) throws -> [PlantedFault] { try FaultTable.parse(entry, of: "x") }
    let entry = "fault a\n  file M/F.swift\n  in\n      if b {\n      c()\n  step c()\n  with\n"
    let whole = entry + "  tests ATests BTests.C\n"
    let fault = try #require(try faults(whole).first)
    #expect(fault.module == "M" && fault.tests == ["ATests", "BTests.C"] && fault.new.isEmpty)
    #expect(throws: FaultTableError.self) { try faults(entry) }
    #expect(throws: FaultTableError.self) { try faults(whole + "  value d\n") }
    #expect(throws: FaultTableError.self) { try faults(whole + "  odd d\n") }
    #expect(throws: FaultTableError.self) { try faults(whole + "more\n") }

    #expect(try FaultPlace.find(fault, in: Array("c()\nif b {\n  c()\n}".utf8)) == 13..<16)
    #expect(throws: FaultTableError.self) { try FaultPlace.find(fault, in: Array("c()\n".utf8)) }
    let twice = Array("if b {\n  c()\n}\nif b { c() }".utf8)
    #expect(throws: FaultTableError.self) { try FaultPlace.find(fault, in: twice) }
  }
}
