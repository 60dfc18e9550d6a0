public import Addressing
public import PageBitmap
import Locking

extension GuestDirtyLog {
  /// Marks the pages behind the set bits of a query.
  ///
  /// - Parameter mappings: in IOVA order, not overlapping. Bits outside them, and under mappings
  ///   that may not be written, mark nothing.
  /// - Parameter mappingsLead: whether most of the mappings have a dirty page. It changes nothing
  ///   but the time this takes.
  /// - Returns: as dirty pages the bits that reached RAM: a page behind two IOVAs counts twice.
  @discardableResult
  public func scatter(
    _ query: borrowing QueryBitmap, through mappings: Span<Mapping>, by source: DirtySource,
    mappingsLead: Bool = false
  ) -> MarkCount {
    spread(
      query, mappings, into: .log(source), mappingsLead: mappingsLead, at: .ofItsOwn)
  }

  /// For a scatter that belongs to an operation which is written down at `place` itself.
  package func scatter(
    _ query: borrowing QueryBitmap, through mappings: Span<Mapping>, by source: DirtySource,
    mappingsLead: Bool = false, at place: JournalPlace
  ) -> MarkCount {
    spread(query, mappings, into: .log(source), mappingsLead: mappingsLead, at: place)
  }

  enum Target {
    case log(DirtySource)
    case heldBack(HolderID)
  }

  func spread(
    _ query: borrowing QueryBitmap, _ mappings: Span<Mapping>, into target: Target,
    mappingsLead: Bool, at place: JournalPlace
  ) -> MarkCount {
    guard let window = query.window else { return MarkCount() }
    let regions = directory.withLock { $0.regions }
    var count = MarkCount()
    guard query.pageSize == pageSize, !regions.isEmpty else {
      for index in mappings.indices {
        count += follow(query, mappings[index], from: window.first, into: target, at: place)
      }
      return count
    }
    var cursor = ScatterCursor(
      gpaFirst: GPA(0), window: window, pageSize: pageSize, mappingsLead: mappingsLead)
    if let first = mappings.indices.first.map({ mappings[$0].iova.first }), first > window.first {
      cursor.pageNext = (first.rawValue &- window.first.rawValue) &>> pageSize.shift
    }
    let windowEnd = cursor.pageEnd
    var region = regions[0]
    while cursor.mappingNext < mappings.count, cursor.pageNext < windowEnd {
      let stop = region.scatter(query, mappings, &cursor, into: target, at: place, &count)
      guard stop != .done else { continue }
      let mapping = mappings[cursor.mappingNext]
      if stop == .outside,
        let other = regions.region(holding: mapping.gpaFirst.rawValue &>> pageSize.shift),
        other !== region, other.region.gpa.contains(mapping.gpa)
      {
        region = other
        continue
      }
      let offset = cursor.pageNext &<< pageSize.shift
      let from = IOVA(window.first.rawValue &+ offset)
      count += follow(query, mapping, from: from, into: target, at: place)
      cursor.pass(mapping)
    }
    return count
  }

  /// One mapping, whatever its alignment, the page sizes and the regions behind it.
  private func follow(
    _ query: borrowing QueryBitmap, _ mapping: Mapping, from first: IOVA, into target: Target,
    at place: JournalPlace
  ) -> MarkCount {
    var count = MarkCount()
    guard mapping.isWritable else { return count }
    var from = max(mapping.iova.first, first)
    while from <= mapping.iova.last,
      let run = query.nextDirtyRun(from: from, through: mapping.iova.last)
    {
      if let part = mapping.clipped(to: run)?.gpa {
        count += markPieces(
          first: part.first.rawValue &>> pageSize.shift,
          last: part.last.rawValue &>> pageSize.shift
        ) { region, first, last in
          region.mark(first: first, last: last, into: target, at: place)
        }
      }
      guard run.last < mapping.iova.last, let next = run.last.advanced(byBytes: 1) else { break }
      from = next
    }
    return count
  }
}

extension RegionLog {
  /// Under one hold of the lock: so many mappings, of which each may be a cache miss or two, and so
  /// many pages of the query, which is 128 KiB of bits.
  private static let mappingsPerHold = 2048
  private static let queryPagesPerHold: UInt64 = 1 << 20

  private static func pagesOfHold(
    _ mappings: Span<Mapping>, _ cursor: borrowing ScatterCursor
  ) -> UInt64 {
    let ahead = cursor.mappingNext &+ mappingsPerHold
    guard ahead < mappings.count else { return queryPagesPerHold }
    let end =
      (mappings[ahead].iova.first.rawValue &- cursor.window.first.rawValue)
      &>> cursor.pageSize.shift
    // A stretch without mappings may lie before the one that is next.
    return end <= cursor.pageNext ? 1 : min(end &- cursor.pageNext, queryPagesPerHold)
  }

  fileprivate func scatter(
    _ query: borrowing QueryBitmap, _ mappings: Span<Mapping>, _ cursor: inout ScatterCursor,
    into target: GuestDirtyLog.Target, at place: JournalPlace, _ count: inout MarkCount
  ) -> ScatterStop {
    cursor.gpaFirst = region.gpa.first
    cursor.count = ScatterCount()
    let pages = Self.pagesOfHold(mappings, cursor)
    let begin = (mapping: cursor.mappingNext, page: cursor.pageNext)
    return withState { state in
      // What is not here any more, or reaches nobody, is only counted.
      if state.isGone || state.shares.isEmpty || !state.copied.isEmpty { return .unaligned }
      switch target {
      case .log(let source):
        let stop = state.main.scatter(query, through: mappings, &cursor, pageCountMax: pages)
        state.counts.add(cursor.count.newlyDirtyPages, by: source)
        count.dirtyPages &+= cursor.count.dirtyPages
        count.newlyDirtyPages &+= cursor.count.newlyDirtyPages
        settleOrder(mappings, from: begin, to: cursor, by: source, at: place, &state)
        return stop
      case .heldBack(let holder):
        guard let next = state.heldNext(of: holder) else { return .unaligned }
        let stop = next.bits.scatter(query, through: mappings, &cursor, pageCountMax: pages)
        count.dirtyPages &+= cursor.count.dirtyPages
        return stop
      }
    }
  }
}
