import ArgumentParser

/// Sizes as people write and read them. Powers of 1024.
enum ByteCount {
  private static let units: [Character: UInt64] = ["K": 10, "M": 20, "G": 30, "T": 40]

  static func parse(_ text: String) throws -> UInt64 {
    var digits = Substring(text.uppercased())
    var shift: UInt64 = 0
    if digits.hasSuffix("IB") { digits = digits.dropLast(2) }
    if let unit = digits.last.flatMap({ units[$0] }) {
      shift = unit
      digits = digits.dropLast()
    }
    guard let number = UInt64(digits), number <= UInt64.max >> shift else {
      throw ValidationError("\"\(text)\" is no size; write 512M or 2G")
    }
    return number << shift
  }

  /// Four significant digits and a unit: `1.234 GiB`, `12.34 MiB`, `123.4 KiB`.
  static func text(_ bytes: UInt64) -> String {
    if bytes < 1024 { return "\(bytes) B" }
    var value = Double(bytes)
    var unit = 0
    while value >= 1024, unit < 4 {
      value /= 1024
      unit += 1
    }
    let digits = value >= 100 ? 1 : value >= 10 ? 2 : 3
    return number(value, digits: digits) + [" B", " KiB", " MiB", " GiB", " TiB"][unit]
  }

  static func number(_ value: Double, digits: Int) -> String {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let whole = UInt64((value * scale).rounded())
    guard digits > 0 else { return "\(whole)" }
    let fraction = String(whole % UInt64(scale))
    return "\(whole / UInt64(scale))."
      + String(repeating: "0", count: digits - fraction.count) + fraction
  }

  /// `12.3 ms`, with tenths below 10 s; `12.3 s` above.
  static func duration(_ nanoseconds: UInt64) -> String {
    let milliseconds = Double(nanoseconds) / 1e6
    return milliseconds < 10_000
      ? number(milliseconds, digits: 1) + " ms" : number(milliseconds / 1000, digits: 1) + " s"
  }
}
