import Addressing

extension Sequence<GPARange> {
  /// The numbers of the pages of 4 KiB in these runs.
  var pages: Set<UInt64> {
    reduce(into: []) { pages, run in
      pages.formUnion((run.first.rawValue >> 12)...(run.last.rawValue >> 12))
    }
  }
}
