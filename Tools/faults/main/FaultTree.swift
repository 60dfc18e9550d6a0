import FaultTable
import Foundation

/// A copy of the package with every fault in it. Files that are as they were stay untouched, so
/// that a second build is a short one.
struct FaultTree {
  let package: URL
  let copy: URL

  private static let folders = ["Sources", "Tests", "Tools", "Traces"]

  func plant(_ faults: [PlantedFault]) throws {
    var wanted: [String: Data] = [:]
    for folder in Self.folders {
      for name in try files(of: package.appendingPathComponent(folder)) {
        let path = "\(folder)/\(name)"
        wanted[path] = try Data(contentsOf: package.appendingPathComponent(path))
      }
    }
    for name in ["Package.swift", "Package.resolved"] {
      wanted[name] = try? Data(contentsOf: package.appendingPathComponent(name))
    }
    for (path, text) in try rewritten(faults) { wanted[path] = Data(text.utf8) }
    for folder in Self.folders {
      for name in (try? files(of: copy.appendingPathComponent(folder))) ?? []
      where wanted["\(folder)/\(name)"] == nil {
        try FileManager.default.removeItem(at: copy.appendingPathComponent("\(folder)/\(name)"))
      }
    }
    for (path, data) in wanted { try write(data, to: copy.appendingPathComponent(path), path) }
  }

  /// Faults by file, and what goes with them. Code that cannot be reached is what a fault leaves
  /// behind, and no error here.
  private func rewritten(_ faults: [PlantedFault]) throws -> [String: String] {
    var result: [String: String] = [:]
    let numbered = faults.enumerated().map { (number: $0.offset + 1, fault: $0.element) }
    for (file, faults) in Dictionary(grouping: numbered, by: \.fault.file) {
      let path = "Sources/\(file)"
      let isC = !file.hasSuffix(".swift")
      let module = "Sources/\(faults[0].fault.module)"
      result[path] = try FaultRewriter(text(of: path), isC: isC, faults).rewritten()
      if isC {
        result["\(module)/planted_fault.h"] = FaultSwitch.cHeader
      } else {
        result["\(module)/FaultSwitch.swift"] = FaultSwitch.swiftFile
      }
    }
    result["Package.swift"] = try text(of: "Package.swift")
      .replacing(".treatAllWarnings(as: .error),", with: "")
      .replacing(#", "-Werror""#, with: "")
    return result
  }

  private func text(of path: String) throws -> String {
    try String(contentsOf: package.appendingPathComponent(path), encoding: .utf8)
  }

  private func files(of folder: URL) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { name in
      let file = folder.appendingPathComponent(name)
      return try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true
    }
  }

  private func write(_ data: Data, to file: URL, _ path: String) throws {
    if (try? Data(contentsOf: file)) == data { return }
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try data.write(to: file)
    let from = package.appendingPathComponent(path).path
    if let mode = try? FileManager.default.attributesOfItem(atPath: from)[.posixPermissions] {
      try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file.path)
    }
  }
}
