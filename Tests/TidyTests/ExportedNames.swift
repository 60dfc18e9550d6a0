import Foundation

/// The names of libsmudge. A program that was linked with the library needs every one of them, so
/// the map by which it is linked changes only together with the header.
enum ExportedNames {
  /// Functions that the header marks with `SMUDGE_API`, in the order in which they come.
  static func declared(_ header: String) -> [String] {
    header.matches(of: /(?m)^SMUDGE_API [^(;]*\b(smudge_\w+)\(/).map { String($0.1) }
  }

  /// Names that the map has as global, in its order, which is the alphabet's.
  static func exported(_ map: String) -> [String] {
    map.matches(of: /(?m)^\s*(smudge_\w+);$/).map { String($0.1) }
  }
}
