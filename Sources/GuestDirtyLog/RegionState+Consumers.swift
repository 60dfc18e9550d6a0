import PageBitmap

/// Consumers that come and go: first a step that is quick, then a walk that the caller makes a few
/// blocks at a time.
extension RegionState {
  /// A consumer comes, with nothing dirty. What was dirty for every consumer now is for the others
  /// alone: all of it at once when there was one other, else by `mainToOwn`.
  mutating func addShare(_ consumer: ConsumerID) throws(PageBitmapError) {
    guard !shares.isEmpty else {
      shares.append(ConsumerShare(consumer: consumer))
      return
    }
    let own = try cleanPages()
    if shares.count == 1 {
      let old = try cleanPages()
      swap(&main, &old.bits)
      shares[0].own = old
    }
    shares.append(ConsumerShare(consumer: consumer, own: own))
  }

  /// Moves what is dirty for all into the own bitmaps of all but the consumer.
  mutating func mainToOwn(except consumer: ConsumerID, blocks: Range<Int>) {
    guard let last = shares.last(where: { $0.consumer != consumer })?.own else { return }
    for share in shares where share.consumer != consumer {
      if let own = share.own, own !== last { _ = own.bits.formUnion(main, blocks: blocks) }
    }
    _ = main.move(into: &last.bits, blocks: blocks)
  }

  /// Everything in the blocks is dirty for the consumer.
  mutating func fill(for consumer: ConsumerID, blocks: Range<Int>) {
    guard let share = share(of: consumer) else { return }
    let pages = pages(in: blocks)
    guard !pages.isEmpty else { return }
    if let own = share.own {
      _ = own.bits.insert(first: pages.lowerBound, last: pages.upperBound &- 1)
    } else {
      _ = main.insert(first: pages.lowerBound, last: pages.upperBound &- 1)
    }
  }

  /// - Returns: what is to be freed.
  mutating func removeShare(_ consumer: ConsumerID) -> [Pages] {
    let own = share(of: consumer)?.own
    shares.removeAll { $0.consumer == consumer }
    return own.map { [$0] } ?? []
  }

  /// After a consumer has gone, brings pages that now are dirty for all back into main.
  mutating func ownToMain(blocks: Range<Int>) {
    guard let first = shares.first else {
      let pages = pages(in: blocks)
      if !pages.isEmpty { main.remove(first: pages.lowerBound, last: pages.upperBound &- 1) }
      return
    }
    guard let own = first.own else { return }
    if shares.count == 1 {
      _ = own.bits.move(into: &main, blocks: blocks)
      return
    }
    own.bits.forEachDirtyWord(blocks: blocks) { index, bits in
      var common = bits
      for share in shares { common &= share.own?.bits.word(index) ?? common }
      _ = main.formUnion(word: index, common)
    }
  }

  /// The last step of a removal: a consumer that is alone needs no bitmap of its own.
  /// - Returns: what is to be freed.
  mutating func dropOwnOfLast() -> [Pages] {
    guard shares.count == 1, let own = shares[0].own, own.bits.isEmpty else { return [] }
    shares[0].own = nil
    return [own]
  }
}
