/// One line of the table: a case, what it is measured against, and the ratio it must reach.
struct Row {
  let name: String
  /// What the time is divided by; for a row that is a size, its unit.
  let peer: String
  let target: Double
  /// The value is a number of its own, not a ratio of times.
  var isPlainNumber = false
}

/// Rows that share their set-up, and the run that fills them.
struct Section {
  let name: String
  let rows: [Row]
  /// Runs everything once per repetition, ours and the peers' turn by turn.
  let run: (Recorder, Effort) throws -> Void
}

/// How much to do.
struct Effort {
  /// Sizes cut to a fraction, to see that everything runs; the times then mean nothing.
  let isQuick: Bool
  let repetitions: Int

  /// `full`, or the part of it that a quick run does.
  func size(_ full: Int, quick: Int) -> Int { isQuick ? quick : full }
}
