/// On which line each key of a file stands: the TOML parser does not say.
///
///     [[vm]]              vm[0]
///     name = "a"          vm[0].name
///     [[vm.device]]       vm[0].device[0]
///     way = "log"         vm[0].device[0].way
///
/// It reads only text that the parser took, and of that only headers and the keys of statements;
/// what lies inside a list or an inline table has the line of its statement. It never fails: where
/// it misreads, a line in an error is missing or wrong, and nothing else.
struct KeyLines {
  private var lines: [KeyPath: Int] = [:]
  /// Tables so far in each list of tables.
  private var counts: [KeyPath: Int] = [:]
  private let bytes: [UInt8]
  private var index = 0
  private var line = 1
  private var table = KeyPath()

  init(_ text: String) {
    bytes = Array(text.utf8)
    while index < bytes.count { readStatement() }
  }

  /// Of the key, or else of what it lies in; nil for the file itself.
  func line(of path: KeyPath) -> Int? {
    var next: KeyPath? = path
    while let path = next {
      if let line = lines[path] { return line }
      next = path.enclosing
    }
    return nil
  }

  private mutating func readStatement() {
    skip { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: "\r") }
    guard let byte = current else { return }
    switch byte {
    case UInt8(ascii: "\n"): advance()
    case UInt8(ascii: "#"): skip { $0 != UInt8(ascii: "\n") }
    case UInt8(ascii: "["): readHeader()
    default:
      note(readKey(), in: table)
      skipValue()
    }
  }

  private mutating func readHeader() {
    advance()
    let isList = current == UInt8(ascii: "[")
    if isList { advance() }
    let key = readKey()
    var path = KeyPath()
    for (number, part) in key.enumerated() {
      path = path.adding(part)
      if isList, number == key.count - 1 { counts[path, default: 0] += 1 }
      if lines[path] == nil { lines[path] = line }
      guard let count = counts[path] else { continue }
      path.parts[path.parts.count - 1].index = count - 1
      if lines[path] == nil { lines[path] = line }
    }
    // `[vm]` is read as a list of one.
    if !isList, path.parts.last?.index == nil, !path.parts.isEmpty {
      path.parts[path.parts.count - 1].index = 0
      lines[path] = line
    }
    table = path
    skip { $0 != UInt8(ascii: "\n") }
  }

  private mutating func note(_ key: [String], in table: KeyPath) {
    var path = table
    for part in key {
      path = path.adding(part)
      if lines[path] == nil { lines[path] = line }
    }
  }

  /// The parts of a dotted key, up to the equals sign or the bracket.
  private mutating func readKey() -> [String] {
    var parts: [String] = []
    while let byte = current {
      switch byte {
      case UInt8(ascii: "="), UInt8(ascii: "]"), UInt8(ascii: "\n"): return parts
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "."): advance()
      case UInt8(ascii: "\""), UInt8(ascii: "'"):
        let first = index
        skipString(byte)
        parts.append(text(first + 1, index - 1))
      default:
        let first = index
        skip { !Array(" \t.=]\n\"'".utf8).contains($0) }
        parts.append(text(first, index))
      }
    }
    return parts
  }

  /// Up to the end of the statement.
  private mutating func skipValue() {
    var depth = 0
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\n") where depth <= 0: return
      case UInt8(ascii: "#"): skip { $0 != UInt8(ascii: "\n") }
      case UInt8(ascii: "\""), UInt8(ascii: "'"): skipString(byte)
      case UInt8(ascii: "["), UInt8(ascii: "{"):
        depth += 1
        advance()
      case UInt8(ascii: "]"), UInt8(ascii: "}"):
        depth -= 1
        advance()
      default: advance()
      }
    }
  }

  /// A string of any of the four kinds. Only those in `"` have escapes.
  private mutating func skipString(_ quote: UInt8) {
    let isLong = index + 2 < bytes.count && bytes[index + 1] == quote && bytes[index + 2] == quote
    for _ in 0..<(isLong ? 3 : 1) { advance() }
    while let byte = current {
      if byte == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
        advance()
      } else if byte == quote {
        if !isLong { return advance() }
        var end = index
        while end < bytes.count, bytes[end] == quote { end += 1 }
        // Up to two more belong to the text before the three that end it.
        let count = end - index
        for _ in 0..<count { advance() }
        if count >= 3 { return }
        continue
      } else if byte == UInt8(ascii: "\n"), !isLong {
        return
      }
      advance()
    }
  }

  private var current: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func advance() {
    guard index < bytes.count else { return }
    if bytes[index] == UInt8(ascii: "\n") { line += 1 }
    index += 1
  }

  private mutating func skip(while isMeant: (UInt8) -> Bool) {
    while let byte = current, isMeant(byte) { advance() }
  }

  private func text(_ first: Int, _ end: Int) -> String {
    first < end ? String(decoding: bytes[first..<end], as: UTF8.self) : ""
  }
}
