/// Sentences for the next report. Bounded: past the limit they are counted.
struct TrackerNotes: Sendable {
  static let countMax = 64
  private var sentences: [String] = []
  private var dropped = 0

  mutating func append(_ sentence: String) {
    if sentences.count < Self.countMax { sentences.append(sentence) } else { dropped += 1 }
  }

  /// What was noted since the last call.
  mutating func take() -> [String] {
    if sentences.isEmpty { return [] }
    var taken = sentences
    if dropped > 0 { taken.append("\(dropped) more notes were not kept") }
    sentences = []
    dropped = 0
    return taken
  }
}
