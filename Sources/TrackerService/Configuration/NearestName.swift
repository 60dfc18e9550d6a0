/// The name somebody probably meant.
public enum NearestName {
  /// The one of `names` that takes the fewest changed, added, left out or swapped letters to become
  /// `text`; the first of several. Nil where none is similar: more than half of its letters differ.
  public static func of(_ text: String, in names: [String]) -> String? {
    // Beyond any name, and quadratic to compare.
    guard text.utf8.count <= 64 else { return nil }
    let wanted = Array(text.lowercased())
    var best: (name: String, distance: Int)?
    for name in names {
      let letters = Array(name)
      let distance = distance(wanted, letters)
      guard distance * 2 <= max(wanted.count, letters.count) else { continue }
      if let best, best.distance <= distance { continue }
      best = (name, distance)
    }
    return best?.name
  }

  /// The optimal string alignment: Levenshtein's distance with swaps of neighbours.
  static func distance(_ first: [Character], _ second: [Character]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...second.count)
    for row in first.indices {
      var current = [row + 1]
      for column in second.indices {
        let isSame = first[row] == second[column]
        var least = min(last[column + 1], current[column]) + 1
        least = min(least, last[column] + (isSame ? 0 : 1))
        if row > 0, column > 0, first[row] == second[column - 1], first[row - 1] == second[column] {
          least = min(least, beforeLast[column - 1] + 1)
        }
        current.append(least)
      }
      beforeLast = last
      last = current
    }
    return last[second.count]
  }
}
