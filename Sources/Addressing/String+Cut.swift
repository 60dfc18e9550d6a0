extension String {
  /// The longest beginning of at most so many bytes of UTF-8 that ends between two characters.
  package func cut(toByteCount limit: Int) -> String {
    guard utf8.count > limit else { return self }
    let end = utf8.index(utf8.startIndex, offsetBy: limit)
    var index = startIndex
    while index < end {
      let next = self.index(after: index)
      if next > end { break }
      index = next
    }
    return String(self[..<index])
  }
}
