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
    var files: [SourceFile] = []
    for folder in folders {
      let base = root.appendingPathComponent(folder)
      let names = FileManager.default.enumerator(atPath: base.path)?.compactMap { $0 as? String }
      for name in (names ?? []).sorted() where name.hasSuffix(".swift") {
        guard let text = try? String(contentsOf: base.appendingPathComponent(name), encoding: .utf8)
        else { continue }
        files.append(SourceFile(path: "\(folder)/\(name)", text: text))
      }
    }
    return files
  }
}
