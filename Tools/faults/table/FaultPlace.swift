/// Where an entry's text stands in its file.
public enum FaultPlace {
  /// - Parameter text: the file in UTF-8.
  /// - Returns: the place of the old text.
  public static func find(_ fault: PlantedFault, in text: [UInt8]) throws -> Range<Int> {
    var places = [0..<text.count]
    if let context = fault.context { places = occurrences(context, in: text, 0..<text.count) }
    guard places.count == 1 else {
      throw FaultTableError(
        description: "fault \(fault.name): its context is \(places.count) times in \(fault.file)")
    }
    let found = occurrences(fault.old, in: text, places[0])
    guard found.count == 1 else {
      throw FaultTableError(
        description: "fault \(fault.name): its text is \(found.count) times in \(fault.file)")
    }
    return found[0]
  }

  /// White space of any length, line breaks included, is like any other: a formatter may move it.
  private static func occurrences(
    _ wanted: String, in text: [UInt8], _ range: Range<Int>
  ) -> [Range<Int>] {
    let words = wanted.split(whereSeparator: \.isWhitespace).map { Array($0.utf8) }
    guard let first = words.first?.first else { return [] }
    var found: [Range<Int>] = []
    var start = range.lowerBound
    while start < range.upperBound {
      if text[start] == first, let end = match(words, in: text, start, range.upperBound) {
        found.append(start..<end)
      }
      start += 1
    }
    return found
  }

  private static func match(
    _ words: [[UInt8]], in text: [UInt8], _ start: Int, _ end: Int
  ) -> Int? {
    var position = start
    for (index, word) in words.enumerated() {
      if index > 0 {
        let before = position
        while position < end, text[position] == 0x20 || text[position] == 0x0a { position += 1 }
        if position == before { return nil }
      }
      for byte in word {
        guard position < end, text[position] == byte else { return nil }
        position += 1
      }
    }
    return position
  }
}
