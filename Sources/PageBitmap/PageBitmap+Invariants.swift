extension PageBitmap {
  /// Traps when an invariant does not hold. For tests; reads every word.
  public func checkInvariants() {
    var count: UInt64 = 0
    for index in 0..<storage.wordCount {
      let bits = storage.word(index)
      guard bits != 0 else { continue }
      count &+= UInt64(bits.nonzeroBitCount)
      let line = index / 8
      precondition(
        storage.lineWord(line / 64) & (1 &<< UInt64(line % 64)) != 0,
        "a line that is not zero is marked")
      precondition(
        storage.blockWord(line / 4096) & (1 &<< UInt64(line / 64 % 64)) != 0,
        "a block that is not zero is marked")
      let last = UInt64(index) &* 64 &+ UInt64(63 &- bits.leadingZeroBitCount)
      precondition(last < pageCount, "no page lies past the last")
    }
    precondition(count == dirtyCount, "dirtyCount counts")
  }
}
