import Foundation

/// Standard output as a person or a program sees it. Unsafe only in handing the kernel a local to
/// fill.
enum Terminal {
  static let isOutput = isatty(STDOUT_FILENO) == 1

  /// Columns of text: the terminal's, 80 at most; 80 where there is none.
  static var width: Int {
    var size = winsize()
    guard isOutput, unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col >= 40
    else { return 80 }
    return min(Int(size.ws_col), 80)
  }

  /// Whether it knows escape sequences.
  private static let hasEscapes: Bool = {
    let kind = ProcessInfo.processInfo.environment["TERM"] ?? ""
    return !kind.isEmpty && kind != "dumb"
  }()

  /// Makes the rest of a line empty, so that no longer one shows behind `count` columns of text.
  static func eraseRest(after count: Int) -> String {
    hasEscapes ? "\u{1b}[K" : String(repeating: " ", count: max(0, width - 1 - count))
  }

  /// A space at which no line is broken.
  static let unbroken: Character = "\u{a0}"

  /// A label of 16 columns and text beside it, broken between words.
  static func lines(_ label: String, _ text: String, width: Int) -> [String] {
    let margin = 16
    var lines: [String] = []
    var line = label + String(repeating: " ", count: max(1, margin - label.count))
    var isEmpty = true
    for word in text.split(separator: " ") {
      if !isEmpty, line.count + 1 + word.count > width {
        lines.append(line)
        line = String(repeating: " ", count: margin)
        isEmpty = true
      }
      line += isEmpty ? String(word) : " " + word
      isEmpty = false
    }
    return (lines + [line]).map { String($0.map { $0 == unbroken ? " " : $0 }) }
  }

  /// Text broken between words, with no label.
  static func wrapped(_ text: String, width: Int) -> [String] {
    var lines: [String] = []
    var line = ""
    for word in text.split(separator: " ", omittingEmptySubsequences: false) {
      if !line.isEmpty, line.count + 1 + word.count > width {
        lines.append(line)
        line = String(word)
      } else {
        line += line.isEmpty ? String(word) : " " + word
      }
    }
    return lines + [line]
  }

  static func say(_ label: String, _ text: String) {
    for line in lines(label, text, width: width) { Output.line(line) }
  }

  /// A reader that is gone is no reason to fail: the exit status still says how it went.
  static func error(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8))
  }
}
