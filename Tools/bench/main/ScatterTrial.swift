import Addressing
import CBenchPeers
import PageBitmap

/// One query with random dirt, its mappings, and a target for each contender.
final class ScatterTrial {
  private let mappings: [Mapping]
  private let peerMappings: [bench_mapping]
  private let source: Words
  private var query: QueryBitmap
  private var target: PageBitmap
  private let peerTarget: Words
  private var isVerified = false

  /// - Parameters:
  ///   - mappings: of a page each.
  ///   - percent: of them, each dirty or not for itself. No backend reports what is not mapped.
  convenience init(
    mappings: [Mapping], windowPages: Int, targetPages: Int, percent: Int
  ) throws {
    var random = SplitMix(state: UInt64(percent))
    let limit = UInt64.max / 100 * UInt64(percent)
    var dirty: [UInt64] = Array(repeating: 0, count: (windowPages + 63) / 64)
    for mapping in mappings where random.next() < limit {
      let page = mapping.iova.first.rawValue >> 12
      dirty[Int(page >> 6)] |= 1 << (page & 63)
    }
    try self.init(mappings: mappings, windowPages: windowPages, targetPages: targetPages) { words in
      words.fill { dirty[$0] }
    }
  }

  /// - Parameter fill: makes the answer.
  init(
    mappings: [Mapping], windowPages: Int, targetPages: Int, _ fill: (Words) -> Void
  ) throws {
    self.mappings = mappings
    self.peerMappings = mappings.map(bench_mapping.init)
    let words = (windowPages + 63) / 64
    source = Words(count: words)
    fill(source)
    query = try QueryBitmap(byteCountMax: words * 8)
    try query.reset(
      window: AddressRange(first: IOVA(0), last: IOVA(UInt64(windowPages) << 12 - 1)),
      pageSize: .fourKiB)
    for index in 0..<words { query.merge(word: index, source[index]) }
    target = try PageBitmap(pageCount: UInt64(targetPages))
    peerTarget = Words(count: (targetPages + 63) / 64)
    // Touch all of it, so that no page has to be had while the time runs.
    _ = target.insert(first: 0, last: UInt64(targetPages) - 1)
  }

  /// Once each, from a clean target.
  func run(_ recorder: Recorder, _ name: String, peer: String?) throws {
    target.removeAll()
    let count = recorder.time(name) { scatter() }
    // The plain loop takes a second where it is not the peer: then once is enough.
    if peer == nil, isVerified { return }
    isVerified = true
    peerTarget.clear()
    let plain = {
      self.peerTarget.scatterPerPage(from: self.source, window: IOVA(0), through: self.peerMappings)
    }
    let newly = peer.map { recorder.time(name, $0, plain) } ?? plain()
    precondition(count.newlyDirtyPages == newly, "both mark the same pages")
  }

  /// What no scatter of these mappings, of 2 MiB and aligned, does without.
  func moveLines() { peerTarget.moveLines(from: source, through: peerMappings) }

  private func scatter() -> ScatterCount {
    let mappings = mappings
    return target.scatter(query, through: mappings.span, gpaFirst: GPA(0))
  }
}
