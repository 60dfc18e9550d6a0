import Addressing
import Simulation

/// One call of a script that is run against the kernel and against the simulation.
enum ScriptCall: Hashable, CustomStringConvertible {
  case map(IOVARange, GPA, Permissions)
  case unmap(IOVARange)
  case unmapWithDirty(IOVARange)
  case start
  case stop
  case query(IOVARange)
  case pin(IOVA)
  case unpin(IOVA)
  case write(IOVA)

  var description: String {
    switch self {
    case .map(let iova, let gpa, let permissions): "map \(iova) at GPA \(gpa) \(permissions)"
    case .unmap(let range): "unmap \(range)"
    case .unmapWithDirty(let range): "unmap with dirty bitmap \(range)"
    case .start: "start"
    case .stop: "stop"
    case .query(let range): "query \(range)"
    case .pin(let page): "pin \(page)"
    case .unpin(let page): "unpin \(page)"
    case .write(let page): "write \(page)"
    }
  }
}

/// A run of calls: the known edges first, then what a seed gives.
struct Script {
  static let base: UInt64 = 0x10_0000
  static let pageCount: UInt64 = 256
  private(set) var calls: [ScriptCall] = []
  private var random: SplitMix64
  /// Where the random part maps and pins, so that many calls hit something.
  private var mapped: [IOVARange] = []

  static func pages(_ first: UInt64, _ count: UInt64) -> IOVARange {
    AddressRange(
      first: IOVA(base + first * 4096), last: IOVA(base + (first + count) * 4096 - 1))
  }

  private static func page(_ index: UInt64) -> IOVA { IOVA(base + index * 4096) }

  /// - Parameter hasPins: with the calls of a mediated device.
  init(seed: UInt64, randomCount: Int, hasPins: Bool) {
    random = SplitMix64(seed: seed)
    addEdges()
    if hasPins { addPinEdges() }
    for _ in 0..<randomCount { addRandom(hasPins: hasPins) }
  }

  /// Sections 1.4 to 1.6 and 10 of the notes, as far as the container's calls reach.
  private mutating func addEdges() {
    let a = Self.pages(0, 70)
    let b = Self.pages(70, 10)
    calls += [
      .query(a), .unmapWithDirty(a), .stop,
      .map(a, GPA(0), .readWrite), .map(a, GPA(0), .readWrite),
      .map(Self.pages(69, 2), GPA(0), .readWrite),
      .map(AddressRange(first: IOVA(0x800), last: IOVA(0x17ff)), GPA(0), .readWrite),
      .map(AddressRange(first: IOVA(0x1000), last: IOVA(0x17ff)), GPA(0), .readWrite),
      .map(b, GPA(0x10000), []),
      .map(AddressRange(first: IOVA(0xfee0_0000), last: IOVA(0xfee0_0fff)), GPA(0), .readWrite),
      .map(AddressRange(first: IOVA(1 << 60), last: IOVA(1 << 60 + 4095)), GPA(0), .readWrite),
      .start, .start, .query(a), .query(a), .query(Self.pages(0, 69)), .query(Self.pages(1, 69)),
      .map(b, GPA(0x10000), .read), .query(b), .query(Self.pages(0, 80)),
      .query(Self.pages(100, 30)), .query(Self.pages(60, 64)), .query(Self.pages(70, 64)),
      .unmap(Self.pages(0, 64)), .unmapWithDirty(Self.pages(0, 64)), .unmap(Self.pages(1, 69)),
      .unmapWithDirty(a), .unmapWithDirty(a), .unmap(a), .unmap(Self.pages(0, 100)),
      .unmap(AddressRange(first: IOVA(0x800), last: IOVA(0x17ff))),
      .stop, .stop, .query(a), .map(a, GPA(0x20000), [.write]), .start, .query(a), .unmap(a),
      .unmap(.wholeSpace), .stop,
    ]
  }

  /// A mediated device pins, writes, unpins; unmapped in the middle.
  private mutating func addPinEdges() {
    let a = Self.pages(0, 70)
    let readOnly = Self.pages(100, 4)
    let pinned: [ScriptCall] = [0, 1, 63, 64, 69].map { .pin(Self.page($0)) }
    calls += [.map(a, GPA(0), .readWrite), .map(readOnly, GPA(0x80000), .read)] + pinned
    calls += [
      .pin(Self.page(70)), .pin(Self.page(100)), .write(Self.page(0)), .write(Self.page(5)),
      .start, .query(a), .query(a), .unpin(Self.page(63)), .query(a), .query(a),
      .pin(Self.page(10)), .write(Self.page(10)), .unpin(Self.page(10)), .query(a), .query(a),
      .query(Self.pages(0, 128)), .pin(Self.page(20)), .unmapWithDirty(a), .query(a),
      .map(a, GPA(0), .readWrite), .query(a), .pin(Self.page(3)), .unmap(a),
      .map(a, GPA(0), .readWrite), .query(a), .unmap(.wholeSpace), .stop,
    ]
  }

  private mutating func addRandom(hasPins: Bool) {
    let first = random.below(Self.pageCount)
    let count = random.once(in: 4) ? 1 : 1 + random.below(UInt64(80))
    let range = Self.pages(first, min(count, Self.pageCount - first))
    let known = mapped.isEmpty ? range : mapped[random.below(mapped.count)]
    let inKnown = IOVA(known.first.rawValue + random.below(known.pageCount(.fourKiB)) * 4096)
    switch random.below(hasPins ? 20 : 12) {
    case 0, 1, 2:
      let gpa = GPA(random.below(UInt64(1024)) * 4096)
      let permissions: Permissions = random.once(in: 4) ? .read : .readWrite
      calls.append(.map(range, gpa, permissions))
      mapped.append(range)
    case 3: calls.append(.unmap(random.once(in: 2) ? known : range))
    case 4: calls.append(.unmapWithDirty(random.once(in: 2) ? known : range))
    case 5: calls.append(random.once(in: 8) ? .stop : .start)
    case 6, 7: calls.append(.query(known))
    case 8: calls.append(.query(range))
    case 9, 10: calls.append(.query(Self.pages(0, Self.pageCount)))
    case 11:
      if let index = mapped.firstIndex(of: known) { mapped.remove(at: index) }
      calls.append(.unmap(known))
    case 12, 13, 14: calls.append(.pin(inKnown))
    case 15, 16: calls.append(.unpin(inKnown))
    default: calls.append(.write(inKnown))
    }
  }
}
