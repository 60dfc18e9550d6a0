import Foundation

/// SwiftPM builds the folders the manifest names and says nothing of the others: a folder of tests
/// that is not named runs none of them, silently.
enum ManifestRules {
  /// The folders of the targets, read from the text in the forms this manifest has for them:
  /// `module("X", …, tests: …)`, `["X"].map(cModule)`, `tool("product", "folder", …)` and a literal
  /// `path:`. A form not known here shows as a folder without a target.
  static func targetFolders(manifest: String) -> Set<String> {
    let text = manifest.replacing(/(?m)^\s*\/\/.*$/, with: "")
    var folders: Set<String> = []
    for match in text.matches(of: /\bpath: "([^"\\]+)"/) { folders.insert(String(match.1)) }
    for match in text.matches(of: /\btool\(\s*"[^"]+",\s*"([^"]+)"/) {
      folders.insert("Tools/\(match.1)")
    }
    for match in text.matches(of: /\[([^\[\]]*)\]\.map\(cModule\)/) {
      for name in match.1.matches(of: /"([^"]+)"/) { folders.insert("Sources/\(name.1)") }
    }
    for match in text.matches(of: /\bmodule\(\s*"([^"]+)"/) {
      folders.insert("Sources/\(match.1)")
      if !arguments(in: text[match.range.lowerBound...]).contains(/tests:\s*nil/) {
        folders.insert("Tests/\(match.1)Tests")
      }
    }
    return folders
  }

  /// Files that no target builds. The lab's driver is the kernel's to build, by its Makefile, and
  /// what goes into its QEMU is built by a script, as are the guest and the device of a migration.
  static func unbuilt(_ paths: [String], manifest: String) -> [String] {
    let folders = targetFolders(manifest: manifest)
      .union(["Tools/lab/driver", "Tools/lab/migration", "Tools/lab/qemu-listener"])
    return paths.filter { path in !folders.contains { path.hasPrefix($0 + "/") } }
  }

  /// From the first parenthesis up to the one that closes it.
  private static func arguments(in call: Substring) -> Substring {
    var depth = 0
    for index in call.indices {
      if call[index] == "(" { depth += 1 }
      if call[index] == ")" {
        depth -= 1
        if depth == 0 { return call[...index] }
      }
    }
    return call
  }
}
