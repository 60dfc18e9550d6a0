import CSmudge

/// A device and the VMM's own container for it: what is really mapped, what was really written, and
/// the two functions of C by which the library asks.
///
/// Unsafe because C calls it back with its address and with words to fill. Sound because the world
/// that made it outlives the container, and a window's words are as many as the header says.
final class LifeDevice {
  struct Target {
    var gpaPage: Int
    var isWritable: Bool
    /// Which map made it: a window may not begin or end inside of one.
    var map: Int
  }

  enum Kind: CaseIterable {
    /// A log by mapping, as iommufd's: a query holds whole mappings and no hole.
    case exact
    /// As type1's: holes are allowed.
    case crossing
    /// As a device's: cut anywhere.
    case cutting
    /// Everything mapped may have been written, in every round.
    case pinned
    /// Nobody can be asked.
    case silent
    /// The VMM tells each write by itself.
    case telling
  }

  let kind: Kind
  /// What the device reaches, by IOVA page.
  var mapped: [Int: Target] = [:]
  /// IOVA pages written since they were asked for.
  var dirty: Set<Int> = []
  var isLogging = false
  /// Queries from here on that fail, with what they took out.
  var failuresLeft = 0
  /// Forgets a bit now and then: the test must notice.
  var forgets = false
  var violations: [String] = []
  /// A sync is under way. A map that is told late asks for what was there before, which may be a
  /// part of what is there by now: the backend would refuse, and all of it is marked.
  var isSyncing = false
  var queryCount = 0

  init(_ kind: Kind) { self.kind = kind }

  var opaque: UnsafeMutableRawPointer { unsafe Unmanaged.passUnretained(self).toOpaque() }

  func params(name: UnsafePointer<CChar>) -> smudge_container_params {
    var params = unsafe smudge_container_params()
    unsafe params.size = UInt32(MemoryLayout<smudge_container_params>.size)
    unsafe params.name = name
    unsafe params.opaque = opaque
    guard kind != .silent else { return unsafe params }
    unsafe params.query = { iova, byteCount, pageSize, words, opaque in
      unsafe LifeDevice.of(opaque).query(iova, byteCount, pageSize, words)
    }
    unsafe params.log_start = { opaque in
      let device = unsafe LifeDevice.of(opaque)
      (device.isLogging, device.dirty) = (true, [])
      return 0
    }
    unsafe params.log_stop = { opaque in
      unsafe LifeDevice.of(opaque).isLogging = false
      return 0
    }
    switch kind {
    case .crossing: unsafe params.query_flags = UInt32(SMUDGE_QUERY_CROSSES_HOLES)
    case .cutting, .telling:
      unsafe params.query_flags =
        UInt32(SMUDGE_QUERY_CROSSES_HOLES | SMUDGE_QUERY_CUTS_MAPPINGS)
    case .pinned:
      unsafe params.query_flags =
        UInt32(SMUDGE_QUERY_CROSSES_HOLES | SMUDGE_QUERY_ANSWERS_PINNED)
    case .exact, .silent: break
    }
    return unsafe params
  }

  private static func of(_ opaque: UnsafeMutableRawPointer?) -> LifeDevice {
    guard let opaque = unsafe opaque else { preconditionFailure("opaque is handed back") }
    return unsafe Unmanaged<LifeDevice>.fromOpaque(opaque).takeUnretainedValue()
  }

  private func query(
    _ iova: UInt64, _ byteCount: UInt64, _ pageSize: UInt64, _ words: UnsafeMutablePointer<UInt64>?
  ) -> Int32 {
    queryCount += 1
    guard let words = unsafe words, pageSize == 4096, iova % 4096 == 0, byteCount % 4096 == 0 else {
      violations.append("a query of \(byteCount) bytes at \(iova)")
      return -22
    }
    let pages = Int(iova / 4096)..<Int((iova + byteCount) / 4096)
    if isSyncing { check(pages) }
    let isFailing = failuresLeft > 0
    if isFailing { failuresLeft -= 1 }
    for page in pages {
      let isPinned = kind == .pinned && mapped[page]?.isWritable == true
      guard dirty.contains(page) || isPinned else { continue }
      dirty.remove(page)
      if isFailing || (forgets && page % 5 == 0) { continue }
      let bit = page - pages.lowerBound
      unsafe words[bit / 64] |= 1 << UInt64(bit % 64)
    }
    return isFailing ? -5 : 0
  }

  /// The rules of its kind, for a window over what is mapped. What was unmapped just now is asked
  /// for as well, and holds no mapping.
  private func check(_ pages: Range<Int>) {
    let inside = pages.compactMap { mapped[$0] }
    if kind == .exact, !inside.isEmpty, inside.count < pages.count {
      violations.append("a query of pages \(pages) holds \(pages.count - inside.count) in a hole")
    }
    guard kind != .cutting, kind != .telling else { return }
    for (edge, beyond) in [
      (pages.lowerBound, pages.lowerBound - 1), (pages.upperBound - 1, pages.upperBound),
    ] {
      if let own = mapped[edge], own.map == mapped[beyond]?.map {
        violations.append("a query of pages \(pages) cuts a mapping")
      }
    }
  }

  /// The bits of a range, taken out: what an unmap with dirty returns.
  func takeBits(_ pages: Range<Int>) -> [UInt64] {
    var words = [UInt64](repeating: 0, count: (pages.count + 63) / 64)
    for page in pages where dirty.remove(page) != nil {
      let bit = page - pages.lowerBound
      words[bit / 64] |= 1 << UInt64(bit % 64)
    }
    return words
  }
}
