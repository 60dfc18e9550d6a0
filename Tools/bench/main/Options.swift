/// The command line of smudge-bench.
struct Options {
  var json = false
  var quick = false
  var list = false
  var filter: String?
  var repetitions: Int?

  static let usage = """
    usage: smudge-bench [--json] [--quick] [--list] [--filter TEXT] [--repetitions N]

      --json           print one JSON object instead of the table
      --quick          small sizes, one repetition: shows that everything runs
      --list           print the cases and run none
      --filter TEXT    only sections and cases whose name or peer contains TEXT
      --repetitions N  how often to run each case (default 7)

    """

  /// Nil when the command line makes no sense.
  init?(_ arguments: [String]) {
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      switch argument {
      case "--json": json = true
      case "--quick": quick = true
      case "--list": list = true
      case "--filter":
        guard let text = rest.popFirst() else { return nil }
        filter = text.lowercased()
      case "--repetitions":
        guard let text = rest.popFirst(), let count = Int(text), count > 0 else { return nil }
        repetitions = count
      default: return nil
      }
    }
  }

  func wants(_ section: Section) -> Bool {
    guard let filter else { return true }
    return section.name.lowercased().contains(filter) || section.rows.contains(where: wants)
  }

  func wants(_ row: Row) -> Bool {
    guard let filter else { return true }
    return row.name.lowercased().contains(filter) || row.peer.lowercased().contains(filter)
  }
}
