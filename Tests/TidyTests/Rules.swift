import Foundation

enum Rules {
  /// The table of DESIGN: which modules of this project each module may import.
  static let level: [String: Int] = [
    "Addressing": 0, "Locking": 0, "CSmudgeLinux": 0, "CBitmapKernels": 0, "CChecksum": 0,
    "CNuma": 0, "COpenSSL": 0, "CJSON": 0,
    "CSmudge": 0,
    "PageBitmap": 1, "IOVAMapping": 1,
    "DMAContainer": 2, "GuestDirtyLog": 2,
    "DirtyTracker": 3, "DeviceMigration": 3, "EventTrace": 3, "Snapshot": 3,
    "VFIOKernel": 4, "IOMMUFD": 4, "VFIOUser": 4, "VhostUser": 4,
    "CPUDirty": 4, "Simulation": 4, "MigrationTransport": 4, "NodeThreads": 4, "TraceReplay": 4,
    "TrackerService": 5, "TrackerReport": 5, "SmudgeABI": 5,
  ]

  /// Imports of an equal level that DESIGN allows by name, and those of records/0001.
  static let sameLevel: Set<[String]> = [
    ["DirtyTracker", "EventTrace"], ["EventTrace", "Snapshot"], ["DirtyTracker", "Snapshot"],
    ["Simulation", "CPUDirty"],
    ["Simulation", "MigrationTransport"], ["Simulation", "NodeThreads"],
  ]

  /// What a module below the service may import from outside the project.
  static let outsideAllowed: [String: Set<String>] = [
    "Addressing": [], "Locking": ["Synchronization"], "PageBitmap": ["Synchronization"],
    "IOVAMapping": [],
    "DMAContainer": ["Synchronization"], "GuestDirtyLog": ["Synchronization"],
    "EventTrace": ["Synchronization"], "Snapshot": [], "DirtyTracker": ["Synchronization"],
    "DeviceMigration": ["Synchronization"],
  ]

  static func longLines(_ file: SourceFile) -> [Int] {
    file.lines.indices.filter { file.lines[$0].count > 100 }.map { $0 + 1 }
  }

  /// First lines of functions, initialisers and accessors longer than 70 lines, by indentation.
  static func longFunctions(_ file: SourceFile) -> [Int] {
    var found: [Int] = []
    for index in file.lines.indices {
      let line = file.lines[index]
      guard line.contains(/\b(func |init[?(<]|deinit )/), line.hasSuffix("{") || !line.contains("}")
      else { continue }
      let text = line.drop(while: { $0 == " " })
      if text.hasPrefix("//") || text.hasPrefix("\"") { continue }
      let indent = line.count - text.count
      let closing = String(repeating: " ", count: indent) + "}"
      guard
        let end = file.lines[(index + 1)...].firstIndex(where: {
          $0.hasPrefix(closing) || ($0.count > 0 && $0.prefix(indent).contains { $0 != " " })
        })
      else { continue }
      if end - index + 1 > 70 { found.append(index + 1) }
    }
    return found
  }

  static func unsafeLines(_ file: SourceFile) -> [Int] {
    if file.name.hasSuffix("+Unsafe.swift") { return [] }
    return file.lines.indices.filter { index in
      let code = code(of: file.lines[index])
      return code.contains(/(?:^|[\s(=,!])unsafe\s/) || code.contains("@safe ")
        || code.contains("@unsafe")
    }.map { $0 + 1 }
  }

  static func forbiddenImports(_ file: SourceFile) -> [String] {
    guard let module = file.module, let own = level[module] else { return [] }
    return file.lines.compactMap { line -> String? in
      guard let match = line.firstMatch(of: /^(?:[@\w()]+ )*import (?:struct |enum |class )?(\w+)/)
      else { return nil }
      let imported = String(match.1)
      if let other = level[imported] {
        return other < own || sameLevel.contains([module, imported]) ? nil : imported
      }
      if own <= 3 { return outsideAllowed[module]?.contains(imported) == true ? nil : imported }
      return own == 4 && imported.hasPrefix("Foundation") ? imported : nil
    }
  }

  /// Tools/test leaves out the runner of XCTest.
  static func importsXCTest(_ file: SourceFile) -> Bool {
    file.lines.contains { $0.contains(/^(?:@?\w+ )*import XCTest\b/) }
  }

  /// What a script lacks to stop at its first failure, whoever starts it.
  static func scriptFaults(_ file: SourceFile) -> [String] {
    var faults: [String] = []
    if file.lines.first != "#!/usr/bin/env bash" { faults.append("not started with bash") }
    if !file.lines.contains("set -euo pipefail") { faults.append("goes on after a failure") }
    return faults
  }

  static func leftForLater(_ file: SourceFile) -> [Int] {
    let words = ["FIX" + "ME", "TO" + "DO", "XX" + "X:"]
    return file.lines.indices.filter { index in
      words.contains { file.lines[index].contains($0) }
    }.map { $0 + 1 }
  }

  /// The line without its comment and without string literals.
  private static func code(of line: Substring) -> String {
    var text = String(line)
    if let comment = text.range(of: "//") { text = String(text[..<comment.lowerBound]) }
    return text.replacing(/"(?:[^"\\]|\\.)*"/, with: "\"\"")
  }
}
