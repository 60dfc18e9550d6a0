/// Where the dirt of an answer lies, a quarter of everything.
enum ScatterDirt: CaseIterable {
  /// What an IOMMU reports with one dirty bit for an entry of 2 MiB.
  case mappings
  /// What one does with a bit for each 4 KiB.
  case pages

  var title: String {
    switch self {
    case .mappings: "25 % of mappings dirty"
    case .pages: "25 % of pages dirty"
    }
  }

  func fill(_ words: Words) {
    var random = SplitMix(state: 25)
    var whole: UInt64 = 0
    words.fill { word in
      switch self {
      case .mappings:
        if word % 8 == 0 { whole = random.next() < UInt64.max / 4 ? .max : 0 }
        return whole
      case .pages: return random.next() & random.next()
      }
    }
  }
}
