/// Text that the other side wrote, made fit for a message: a terminal must not obey it, and it must
/// not be long.
enum PeerText {
  /// Characters of a name that are shown.
  static let nameCountMax = 64
  /// Characters of a reason that are shown.
  static let reasonCountMax = 1024
  /// Items of a list that are shown.
  static let listCountMax = 8

  static func name(_ text: String) -> String { shown(text, countMax: nameCountMax) }
  static func reason(_ text: String) -> String { shown(text, countMax: reasonCountMax) }

  /// The first items, and how many more there are.
  static func list(_ items: [String]) -> String {
    let shown = items.prefix(listCountMax).joined(separator: "; ")
    let more = items.count - listCountMax
    return more > 0 ? "\(shown); and \(more) more" : shown
  }

  /// Escaped as a Swift literal would be, so that what came can still be told.
  private static func shown(_ text: String, countMax: Int) -> String {
    var result = ""
    var count = 0
    for scalar in text.unicodeScalars {
      guard count < countMax else { return result + "…" }
      count += 1
      if isSafe(scalar) {
        result.unicodeScalars.append(scalar)
      } else {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      }
    }
    return result
  }

  /// Not a control character, of either set; not one that turns the direction of writing, is not
  /// seen, or ends a line.
  private static func isSafe(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse,
      .unassigned:
      false
    default: true
    }
  }
}
