import Addressing

/// One-page mappings strewn over 64 times as many pages, and the orders they are used in.
struct Workload {
  /// In the order they are inserted: none.
  let mappings: [Mapping]
  /// An address inside each, in another order.
  let addresses: [IOVA]
  /// The mappings in a third order.
  let removals: [Mapping]

  init(mappingCount: Int, seed: UInt64) {
    var random = SplitMix(state: seed)
    let pages = Self.distinctPages(mappingCount, of: mappingCount * 64, &random)
    mappings = pages.shuffled(using: &random).map { page in
      Mapping(
        iova: AddressRange(first: IOVA(page << 12), last: IOVA(page << 12 | 0xfff)),
        gpaFirst: GPA(random.below(1 << 24) << 12), permissions: .readWrite)
    }
    addresses = pages.shuffled(using: &random).map { IOVA($0 << 12 | 123) }
    removals = mappings.shuffled(using: &random)
  }

  /// `count` different numbers below `bound`, rising.
  static func distinctPages(_ count: Int, of bound: Int, _ random: inout SplitMix) -> [UInt64] {
    var taken = [Bool](repeating: false, count: bound)
    var left = count
    while left > 0 {
      let page = Int(random.below(UInt64(bound)))
      if !taken[page] {
        taken[page] = true
        left -= 1
      }
    }
    return taken.indices.filter { taken[$0] }.map(UInt64.init)
  }
}

/// Random numbers with a stated seed, so that every run does the same work (SplitMix64).
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z &>> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z &>> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z &>> 31)
  }

  mutating func below(_ bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }
}
