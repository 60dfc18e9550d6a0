public import Addressing

extension PageBitmap {
  /// Marks the pages behind the set bits of a query.
  ///
  /// Mappings of whole pages, on both sides the same size, take the kernels' fast paths; all others
  /// are followed run by run. A page of which only a part was dirty is dirty.
  ///
  /// - Parameters:
  ///   - mappings: in IOVA order, not overlapping. Bits outside them, and bits under mappings that
  ///     may not be written, mark nothing.
  ///   - gpaFirst: the GPA of this bitmap's first page. GPA outside the bitmap marks nothing here.
  ///   - mappingsLead: whether most of the mappings have a dirty page. It changes nothing but the
  ///     time this takes.
  public mutating func scatter(
    _ query: borrowing QueryBitmap, through mappings: Span<Mapping>, gpaFirst: GPA,
    mappingsLead: Bool = false
  ) -> ScatterCount {
    guard let window = query.window, !mappings.isEmpty else { return ScatterCount() }
    var cursor = ScatterCursor(
      gpaFirst: gpaFirst, window: window, pageSize: query.pageSize, mappingsLead: mappingsLead)
    // Bits before the first mapping need no look.
    if mappings[0].iova.first > window.first {
      cursor.pageNext =
        (mappings[0].iova.first.rawValue &- window.first.rawValue) &>> query.pageSize.shift
    }
    if query.pageSize == pageSize && gpaFirst.isAligned(to: pageSize) {
      return scatterByKernel(query, mappings, &cursor)
    }
    var count = ScatterCount()
    for index in mappings.indices {
      let slow = followRuns(query, mappings[index], gpaFirst)
      count.dirtyPages &+= slow.dirtyPages
      count.newlyDirtyPages &+= slow.newlyDirtyPages
    }
    return count
  }

  private mutating func scatterByKernel(
    _ query: borrowing QueryBitmap, _ mappings: Span<Mapping>, _ cursor: inout ScatterCursor
  ) -> ScatterCount {
    var slow = ScatterCount()
    while scatter(query, through: mappings, &cursor, pageCountMax: UInt64.max) != .done {
      let mapping = mappings[cursor.mappingNext]
      let count = followRuns(query, mapping, cursor.gpaFirst)
      slow.dirtyPages &+= count.dirtyPages
      slow.newlyDirtyPages &+= count.newlyDirtyPages
      cursor.pass(mapping)
    }
    slow.dirtyPages &+= cursor.count.dirtyPages
    slow.newlyDirtyPages &+= cursor.count.newlyDirtyPages
    return slow
  }

  /// Scatters at most `pageCountMax` pages of the query from the cursor on, and counts in the
  /// cursor. Stops before a mapping that is not made of whole pages or leaves this bitmap.
  ///
  /// - Precondition: query, bitmap and cursor have the same page size, the cursor's GPA is that of
  ///   this bitmap's first page, and its window that of the query.
  package mutating func scatter(
    _ query: borrowing QueryBitmap, through mappings: Span<Mapping>,
    _ cursor: inout ScatterCursor, pageCountMax: UInt64
  ) -> ScatterStop {
    precondition(
      query.pageSize == pageSize && cursor.pageSize == pageSize && query.window == cursor.window,
      "the pages and the window of query, cursor and bitmap are the same")
    let windowEnd = cursor.window.pageCount(pageSize)
    guard cursor.pageNext < windowEnd, cursor.mappingNext < mappings.count else { return .done }
    let left = windowEnd &- cursor.pageNext
    cursor.pageEnd = cursor.pageNext &+ min(left, pageCountMax)
    let before = cursor.count.newlyDirtyPages
    let stop = query.withWords { words in storage.scatter(words, mappings, &cursor) }
    dirtyCount &+= cursor.count.newlyDirtyPages &- before
    guard stop == .done, cursor.pageEnd < windowEnd, cursor.mappingNext > 0 else { return stop }
    // The last mapping may go on past the pages of this call.
    let end = cursor.window.first.rawValue &+ (cursor.pageEnd &<< pageSize.shift)
    if mappings[cursor.mappingNext &- 1].iova.last.rawValue >= end { cursor.mappingNext &-= 1 }
    return stop
  }

  /// One mapping, whatever its alignment and the page sizes.
  private mutating func followRuns(
    _ query: borrowing QueryBitmap, _ mapping: Mapping, _ gpaFirst: GPA
  ) -> ScatterCount {
    var count = ScatterCount()
    guard mapping.isWritable, let own = gpaRange(from: gpaFirst) else { return count }
    var from = mapping.iova.first
    while let run = query.nextDirtyRun(from: from, through: mapping.iova.last) {
      if let part = mapping.clipped(to: run)?.gpa.intersection(own) {
        count.dirtyPages &+= part.pageCount(query.pageSize)
        let first = (part.first.rawValue &- gpaFirst.rawValue) &>> pageSize.shift
        let last = (part.last.rawValue &- gpaFirst.rawValue) &>> pageSize.shift
        count.newlyDirtyPages &+= insert(first: first, last: last)
      }
      guard run.last < mapping.iova.last, let next = run.last.advanced(byBytes: 1) else { break }
      from = next
    }
    return count
  }

  /// The GPA this bitmap covers when its first page is at `gpaFirst`; clipped at 2^64-1.
  private func gpaRange(from gpaFirst: GPA) -> GPARange? {
    let (bytes, overflow) = pageCount.multipliedReportingOverflow(by: pageSize.bytes)
    if bytes == 0 && !overflow { return nil }
    return (overflow ? nil : GPARange(first: gpaFirst, byteCount: bytes))
      ?? AddressRange(first: gpaFirst, last: GPA(UInt64.max))
  }
}
