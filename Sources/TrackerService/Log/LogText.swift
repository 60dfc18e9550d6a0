/// Text of others, as one line that cannot be taken for something else.
public enum LogText {
  /// Moves a terminal's cursor, breaks a line, or shows what follows in another order.
  static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7f..<0xa0, 0x2028, 0x2029, 0x200e, 0x200f, 0x202a...0x202e, 0x2066...0x2069:
      true
    default: false
    }
  }

  /// With each control character as `\n`, `\r`, `\t` or `\u{1b}`.
  public static func escaped(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where isControl(scalar): result += "\\u{\(String(scalar.value, radix: 16))}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// At most so many characters and bytes of UTF-8; one that was longer ends with three dots.
  static func cut(_ text: String, characterCount: Int, byteCount: Int) -> String {
    // No character has less than one byte: most lines are done here.
    if text.utf8.count <= min(characterCount, byteCount) { return text }
    let dots = "..."
    var (characters, bytes) = (0, 0)
    // The last place after which the dots still fit.
    var end = text.startIndex
    for index in text.indices {
      let next = text.index(after: index)
      characters += 1
      bytes += text.utf8.distance(from: index, to: next)
      if characters > characterCount || bytes > byteCount { return String(text[..<end]) + dots }
      if characters + dots.count <= characterCount, bytes + dots.count <= byteCount { end = next }
    }
    return text
  }
}
