/// Walks over the bytes of one line.
struct LineScanner {
  private let bytes: [UInt8]
  private let start: Int
  private let end: Int
  private(set) var position: Int

  /// - Precondition: `line` lies in the bytes, and `position` in it or at its end.
  init(_ bytes: [UInt8], _ line: Range<Int>, from position: Int? = nil) {
    let position = position ?? line.lowerBound
    precondition(
      line.lowerBound >= 0 && line.upperBound <= bytes.count && position >= line.lowerBound
        && position <= line.upperBound, "outside the line")
    self.bytes = bytes
    self.start = line.lowerBound
    self.end = line.upperBound
    self.position = position
  }

  var isAtEnd: Bool { position == end }
  /// The byte ahead, 0 at the end.
  var next: UInt8 { position < end ? bytes[position] : 0 }
  /// The byte behind, 0 at the beginning.
  var previous: UInt8 { position > start ? bytes[position &- 1] : 0 }

  func at(_ position: Int) -> LineScanner { LineScanner(bytes, start..<end, from: position) }

  mutating func skip() { if position < end { position &+= 1 } }
  mutating func stepBack() { if position > start { position &-= 1 } }

  mutating func skipSpaces() {
    while next == UInt8(ascii: " ") || next == UInt8(ascii: "\t") { position &+= 1 }
  }

  /// At the end, or before a blank.
  var isAtBreak: Bool {
    isAtEnd || next == UInt8(ascii: " ") || next == UInt8(ascii: "\t")
  }

  /// Steps over `name=value`.
  mutating func skipField() -> Bool {
    let begin = position
    while !isAtBreak, next != UInt8(ascii: "=") { position &+= 1 }
    guard next == UInt8(ascii: "="), position > begin else { return false }
    while !isAtBreak { position &+= 1 }
    return true
  }

  /// Steps back over blanks.
  mutating func stepBackOverSpaces() {
    while previous == UInt8(ascii: " ") || previous == UInt8(ascii: "\t") { stepBack() }
  }

  /// Steps back over `word` if it is what lies behind.
  mutating func takeBack(_ word: [UInt8]) -> Bool {
    guard position &- start >= word.count, matches(word, position &- word.count) else {
      return false
    }
    position &-= word.count
    return true
  }

  /// Where `word` stands last in the line.
  func last(_ word: [UInt8]) -> Int? {
    var at = end &- word.count
    while at >= start {
      if bytes[at] == word[0], matches(word, at) { return at }
      at &-= 1
    }
    return nil
  }

  /// Whether `word` stands anywhere in the line and `test`, given a scanner there, holds.
  func contains(_ word: [UInt8], _ test: (LineScanner) -> Bool) -> Bool {
    var at = end &- word.count
    while at >= start {
      if bytes[at] == word[0], matches(word, at), test(self.at(at)) { return true }
      at &-= 1
    }
    return false
  }

  /// Steps over `word` if it is what comes next.
  mutating func take(_ word: [UInt8]) -> Bool {
    guard end &- position >= word.count, matches(word, position) else { return false }
    position &+= word.count
    return true
  }

  private func matches(_ word: [UInt8], _ at: Int) -> Bool {
    for index in word.indices where bytes[at &+ index] != word[index] { return false }
    return true
  }

  static func isDecimal(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }

  /// Nil when no digit is next, or the number needs more than 64 bits.
  mutating func decimal() -> UInt64? {
    guard Self.isDecimal(next) else { return nil }
    var value: UInt64 = 0
    while Self.isDecimal(next) {
      let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, more) = tens.addingReportingOverflow(UInt64(next &- UInt8(ascii: "0")))
      if overflow || more { return nil }
      value = sum
      position &+= 1
    }
    return value
  }

  /// Decimal, or hexadecimal with its `0x`.
  mutating func number() -> UInt64? { hexadecimal() ?? decimal() }

  /// Digits behind a decimal point as billionths; those after the ninth are left out.
  mutating func billionths() -> UInt64 {
    var value: UInt64 = 0
    var unit: UInt64 = 100_000_000
    while Self.isDecimal(next) {
      value &+= UInt64(next &- UInt8(ascii: "0")) &* unit
      unit /= 10
      position &+= 1
    }
    return value
  }

  /// `0x` and 1 to 16 digits.
  mutating func hexadecimal() -> UInt64? {
    guard take(Word.hexadecimal) else { return nil }
    var value: UInt64 = 0
    var digits = 0
    while let digit = Self.hexadecimalDigit(next) {
      guard digits < 16 else { return nil }
      value = value &<< 4 | digit
      digits &+= 1
      position &+= 1
    }
    return digits == 0 ? nil : value
  }

  private static func hexadecimalDigit(_ byte: UInt8) -> UInt64? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte &- UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte &- UInt8(ascii: "a") &+ 10)
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt64(byte &- UInt8(ascii: "A") &+ 10)
    default: nil
    }
  }
}
