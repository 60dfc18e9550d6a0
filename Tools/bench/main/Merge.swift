import PageBitmap

/// Merge with the count of newly set pages: a bitmap of 1 TiB into another.
enum Merge {
  static let name = "merge with count, 32 MiB"

  static var section: Section {
    Section(
      name: "merge", rows: [Row(name: name, peer: "memcpy", target: 1.1)]
    ) { recorder, effort in
      let words = effort.size(4 << 20, quick: 4 << 14)
      var random = SplitMix(state: 3)
      let source = Words(count: words)
      let copy = Words(count: words)
      // A quarter of the pages.
      source.fill { _ in random.next() & random.next() }
      let set = source.with { words in
        words.indices.reduce(UInt64(0)) { $0 + UInt64(words[$1].nonzeroBitCount) }
      }
      var bitmap = try PageBitmap(pageCount: UInt64(words) * 64)
      for _ in 0..<effort.repetitions {
        // Touch all of it, so that no page has to be had while the time runs.
        _ = bitmap.insert(first: 0, last: bitmap.pageCount - 1)
        bitmap.removeAll()
        let newly = recorder.time(name) {
          source.with { bitmap.merge(words: $0, bitCount: bitmap.pageCount, at: 0) }
        }
        precondition(newly == set, "every dirty page is new once")
        recorder.time(name, "memcpy") { copy.copy(from: source) }
      }
    }
  }
}
