import Foundation

/// Standard output as a person or a program sees it. Unsafe only in handing the kernel a local to
/// fill.
enum Terminal {
  static let isOutput = isatty(STDOUT_FILENO) == 1

  /// Columns of text: the terminal's, 100 at most; 100 where there is none.
  static var width: Int {
    var size = winsize()
    guard isOutput, unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col >= 40
    else { return 100 }
    return min(Int(size.ws_col), 100)
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

  static func say(_ label: String, _ text: String) {
    for line in lines(label, text, width: width) { print(line) }
    // Through a pipe, too, this is to be seen as it happens.
    fflush(nil)
  }

  /// A reader that is gone is no reason to fail: the exit status still says how it went.
  static func error(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8))
  }
}
