/// Figures of devices and links may be as large as they like: where a result has no room it is the
/// largest number there is.
extension UInt64 {
  func addingSaturating(_ other: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }

  /// A product over a divisor, exact in between. Of a divisor that is 0 the largest number.
  func multiplied(by factor: UInt64, over divisor: UInt64) -> UInt64 {
    let (high, low) = multipliedFullWidth(by: factor)
    return high < divisor ? divisor.dividingFullWidth((high, low)).quotient : .max
  }
}
