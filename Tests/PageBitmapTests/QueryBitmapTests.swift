import Addressing
import PageBitmap
import Testing

@Suite struct QueryBitmapTests {
  @Test func `a window beyond the query's memory is refused and names both`() throws {
    var query = try QueryBitmap(byteCountMax: 8)
    let window = AddressRange(first: IOVA(0), last: IOVA(64 * 4096 + 4095))
    #expect(
      throws: PageBitmapError.windowTooLarge(window, pageSize: .fourKiB, byteCountMax: 8)
    ) {
      try query.reset(window: window, pageSize: .fourKiB)
    }
    #expect(query.window == nil)
  }

  @Test func `a new window starts clear and runs come out in order`() throws {
    var query = try QueryBitmap(byteCountMax: 1024)
    let window = AddressRange(first: IOVA(0x10000), last: IOVA(0x10000 + 100 * 4096 - 1))
    try query.reset(window: window, pageSize: .fourKiB)
    query.insert(AddressRange(first: IOVA(0), last: IOVA(0x10fff)))
    query.insert(AddressRange(first: IOVA(0x14800), last: IOVA(0x16001)))
    var runs: [IOVARange] = []
    query.forEachDirtyRun { runs.append($0) }
    #expect(
      runs == [
        AddressRange(first: IOVA(0x10000), last: IOVA(0x10fff)),
        AddressRange(first: IOVA(0x14000), last: IOVA(0x16fff)),
      ])
    #expect(query.contains(IOVA(0x15fff)) && !query.contains(IOVA(0x17000)))
    try query.reset(window: window, pageSize: .fourKiB)
    #expect(query.isClear && query.dirtyCount == 0)
  }

  @Test func `the layouts the kernels share with Swift are the same`() {
    #expect(MemoryLayout<Mapping>.size == 40 && MemoryLayout<Mapping>.stride == 40)
    #expect(MemoryLayout<Mapping>.offset(of: \.iova) == 0)
    #expect(MemoryLayout<Mapping>.offset(of: \.gpaFirst) == 16)
    #expect(MemoryLayout<Mapping>.offset(of: \.permissions) == 24)
    #expect(MemoryLayout<Mapping>.offset(of: \.generation) == 32)
    #expect(PackedLayout.size == 32 && PackedLayout.stride == 32)
    #expect(PackedLayout.offsets == [0, 8, 16, 24])
  }
}
