import Addressing
import PageBitmap
import Locking
import struct Synchronization.Atomic
import struct Synchronization.AtomicLazyReference

/// One journal, held where a mark finds it without a lock.
final class AttachedJournal: Sendable {
  let journal: any DirtyLogJournal

  init(_ journal: any DirtyLogJournal) { self.journal = journal }
}

extension GuestDirtyLog {
  /// From now on everything that happens to the log is written down.
  /// - Precondition: the log has no journal yet, no region and no consumer.
  public func attach(_ journal: any DirtyLogJournal) {
    structure.withLock { _ in
      let isEmpty = directory.withLock { $0.regions.isEmpty && $0.consumers.isEmpty }
      precondition(isEmpty, "a journal begins with an empty log")
      let mine = AttachedJournal(journal)
      precondition(attached.storeIfNil(mine) === mine, "a log has one journal")
      hasJournal.store(true, ordering: .releasing)
    }
  }

  var journal: (any DirtyLogJournal)? {
    hasJournal.load(ordering: .acquiring) ? attached.load()?.journal : nil
  }

  /// The place of a mark that no operation of a tracker makes: its own entry.
  func journaled(_ entry: @autoclosure () -> DirtyLogEntry) -> JournalPlace {
    guard let journal else { return .none }
    return journal.append(entry())
  }

  /// Writes down what has happened. The caller holds the lock under which it did.
  func write(_ entry: @autoclosure () -> DirtyLogEntry) { _ = journaled(entry()) }
}

extension RegionLog {
  /// Writes down what no mark of these pages may change places with. The caller holds the lock.
  func order(_ entry: @autoclosure () -> DirtyLogEntry, _ state: inout RegionState) {
    if let journal { state.lastOrdered = journal.append(entry()) }
  }

  /// After a mark of pages `first` to `last` that belongs at `place`. When others have taken pages
  /// of the region since, the order of the journal would have them take this mark's too: all that
  /// is dirty there is written down once more, behind them.
  @inline(__always) func settleOrder(
    _ first: UInt64, _ last: UInt64, by source: DirtySource, at place: JournalPlace,
    _ state: inout RegionState
  ) {
    if place < state.lastOrdered, !limits.omitsOrder { writeDirty(first, last, by: source, state) }
  }

  private func writeDirty(
    _ first: UInt64, _ last: UInt64, by source: DirtySource, _ state: borrowing RegionState
  ) {
    guard let journal, !state.isGone else { return }
    let runs = runs(of: state.main, first, last)
    if !runs.isEmpty { _ = journal.append(.marked(by: source, runs)) }
  }

  /// The set bits among pages `first` to `last` of the region.
  func runs(of bits: borrowing PageBitmap, _ first: UInt64, _ last: UInt64) -> [GPARange] {
    var runs: [GPARange] = []
    var page = first
    while page <= last,
      let run = bits.nextRun(from: page, before: last &+ 1, pageCountMax: last &- page &+ 1),
      run.first <= last
    {
      let end = min(run.last, last)
      runs.append(range(of: PageRun(first: run.first, last: end), bits.pageSize))
      page = end &+ 1
    }
    return runs
  }

  /// As ``settleOrder(_:_:by:at:_:)`` for what a scatter has done between two places of its cursor.
  func settleOrder(
    _ mappings: Span<Mapping>, from begin: (mapping: Int, page: UInt64),
    to end: borrowing ScatterCursor, by source: DirtySource, at place: JournalPlace,
    _ state: inout RegionState
  ) {
    guard place < state.lastOrdered, !limits.omitsOrder, let journal, end.pageNext > begin.page
    else { return }
    let shift = end.pageSize.shift
    let window = end.window.first.rawValue
    let done = AddressRange(
      first: IOVA(window &+ begin.page &<< shift),
      last: IOVA(window &+ (end.pageNext &- 1) &<< shift).lastOfPage(end.pageSize))
    var runs: [GPARange] = []
    for index in begin.mapping..<min(end.mappingNext &+ 1, mappings.count) {
      guard mappings[index].isWritable, let part = mappings[index].clipped(to: done)?.gpa,
        let inside = part.intersection(region.gpa)
      else { continue }
      runs += self.runs(
        of: state.main, (inside.first.rawValue &>> shift) &- firstPage,
        (inside.last.rawValue &>> shift) &- firstPage)
    }
    if !runs.isEmpty { _ = journal.append(.marked(by: source, runs)) }
  }
}
