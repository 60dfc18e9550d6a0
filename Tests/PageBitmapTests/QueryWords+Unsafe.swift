import Addressing
import PageBitmap
import Testing

/// Unsafe because it writes the words as a backend does. Sound because they are the window's own.
@Suite struct QueryWordsTests {
  @Test func `a reset clears what a backend wrote, though what was read had been cleared`() throws {
    var query = try QueryBitmap(byteCountMax: 1 << 20)
    let window = AddressRange(first: IOVA(0), last: IOVA(512 << 21 - 1))
    let words = 4096
    for round in 0..<3 {
      try query.reset(window: window, pageSize: .fourKiB)
      let isClear = query.isClear
      #expect(isClear, "round \(round)")
      unsafe query.withUnsafeMutableWords { base in
        for word in stride(from: round, to: words, by: 7) { unsafe base[word] = .max }
      }
      let before = query.dirtyCount
      // All of it, a part of it, a word with bits on both sides of the address.
      let page: UInt64 = [262_144, 100_000, 4165][round]
      query.forget(before: IOVA(page << 12))
      var left: UInt64 = 0
      for word in Int(page / 64)..<words where word % 7 == round { left += 64 }
      let after = query.dirtyCount
      #expect(after == left && before > after, "round \(round)")
    }
  }
}
