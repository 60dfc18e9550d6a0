import Foundation

struct SourceFile {
  /// Relative to the package.
  let path: String
  let lines: [Substring]

  init(path: String, text: String) {
    self.path = path
    self.lines = text.split(separator: "\n", omittingEmptySubsequences: false)
  }

  var name: String { path.split(separator: "/").last.map(String.init) ?? path }

  /// The module a file of Sources belongs to.
  var module: String? {
    let parts = path.split(separator: "/")
    return parts.first == "Sources" && parts.count > 2 ? String(parts[1]) : nil
  }
}

enum SourceTree {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  static func swiftFiles(under folders: [String]) -> [SourceFile] {
    files(under: folders) { $0.hasSuffix(".swift") }
  }

  /// C, C++ and what is included into them.
  static func cFiles(under folders: [String]) -> [SourceFile] {
    files(under: folders) { name in [".c", ".h", ".cpp"].contains { name.hasSuffix($0) } }
  }

  /// The commands for people and for CI: files without an ending, or shell's.
  static func scripts(under folders: [String]) -> [SourceFile] {
    files(under: folders) { name in
      let last = name.split(separator: "/").last ?? ""
      return last.hasSuffix(".sh") || (!last.contains(".") && last != "Makefile")
    }
  }

  static func isExecutable(_ file: SourceFile) -> Bool {
    FileManager.default.isExecutableFile(atPath: root.appendingPathComponent(file.path).path)
  }

  static func manifest() throws -> String { try text(of: "Package.swift") }

  static func text(of path: String) throws -> String {
    try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
  }

  /// Text files only; folders and files of other encodings are passed over.
  private static func files(
    under folders: [String], where isWanted: (String) -> Bool
  ) -> [SourceFile] {
    var files: [SourceFile] = []
    for folder in folders {
      let base = root.appendingPathComponent(folder)
      let names = FileManager.default.enumerator(atPath: base.path)?.compactMap { $0 as? String }
      for name in (names ?? []).sorted() where isWanted(name) {
        guard let text = try? String(contentsOf: base.appendingPathComponent(name), encoding: .utf8)
        else { continue }
        files.append(SourceFile(path: "\(folder)/\(name)", text: text))
      }
    }
    return files
  }
}
