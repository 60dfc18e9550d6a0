import Addressing
import DMAContainer
import PageBitmap
import Simulation
import TestSupport
import Testing

/// The rules of type1, with the worked numbers of the kernel's code.
@Suite struct ContainerType1Tests {
  static let einval = ContainerErrno.einval
  let memory = ContainerTestMemory()

  static func range(_ first: UInt64, _ bytes: UInt64) -> IOVARange {
    AddressRange(first: IOVA(first), last: IOVA(first + bytes - 1))
  }

  func map(
    _ container: SimulatedType1, _ first: UInt64, _ pages: UInt64,
    _ permissions: Permissions = .readWrite
  ) throws {
    try container.map(
      MapRequest(
        iova: Self.range(first, pages << 12), gpaFirst: memory.gpa.first, hvaFirst: nil,
        permissions: permissions))
  }

  func errno(_ body: () throws(ContainerError) -> Void) -> Int32? {
    do throws(ContainerError) {
      try body()
      return nil
    } catch {
      return error.errno
    }
  }

  /// Dirty page numbers of one query.
  func query(_ container: SimulatedType1, _ window: IOVARange) throws(ContainerError) -> [UInt64] {
    var bitmap = ContainerDriver.bitmap(window)
    try container.dirtyLogs[0].query(&bitmap, clear: true)
    var pages: [UInt64] = []
    bitmap.forEachDirtyRun { run in
      pages += Array(run.first.rawValue >> 12...run.last.rawValue >> 12)
    }
    return pages
  }

  @Test func `map refuses what the kernel refuses`() throws {
    let container = SimulatedType1(
      memory: memory, validRanges: [Self.range(0, 0xfee0_0000), Self.range(0xfef0_0000, 1 << 40)])
    try map(container, 0x10_0000, 70)
    let cases: [(UInt64, UInt64, Int32)] = [
      (0x10_0000, 70 << 12, ContainerErrno.eexist), (0x14_5000, 1 << 12, ContainerErrno.eexist),
      (0x20_0800, 1 << 12, Self.einval), (0x20_0000, 0x800, Self.einval),
      (0xfed0_0000, 0x20_0000, Self.einval),
    ]
    for (first, bytes, expected) in cases {
      let found = errno { () throws(ContainerError) in
        try container.map(
          MapRequest(
            iova: Self.range(first, bytes), gpaFirst: memory.gpa.first, hvaFirst: nil,
            permissions: .readWrite))
      }
      #expect(found == expected, "\(first) \(bytes)")
    }
    let wraps = errno { () throws(ContainerError) in
      try container.map(
        MapRequest(
          iova: Self.range(0x20_0000, 0x2000), gpaFirst: memory.gpa.first,
          hvaFirst: HVA(0xffff_ffff_ffff_f000), permissions: .readWrite))
    }
    #expect(wraps == ContainerErrno.eoverflow)
    #expect(container.mappingCount == 1)
  }

  @Test func `the 65536th mapping is ENOSPC and an unmap makes room`() throws {
    let container = SimulatedType1(memory: memory)
    for index in 0..<65_535 as Range<UInt64> { try map(container, index << 13, 1) }
    let full = errno { () throws(ContainerError) in
      try container.map(
        MapRequest(
          iova: Self.range(65_535 << 13, 4096), gpaFirst: memory.gpa.first, hvaFirst: nil,
          permissions: .readWrite))
    }
    #expect(full == ContainerErrno.enospc)
    #expect(container.capabilities.mappingCountMax == 65_535)
    try container.unmap(Self.range(0, 4096))
    try map(container, 65_535 << 13, 1)
  }

  @Test func `unmap cuts nothing, counts bytes, and finds nothing the second time`() throws {
    let container = SimulatedType1(memory: memory)
    try map(container, 0x10_0000, 70)
    for cut in [Self.range(0x10_0000, 64 << 12), Self.range(0x10_1000, 0x45000)] {
      #expect(errno { () throws(ContainerError) in try container.unmap(cut) } == Self.einval)
    }
    #expect(try container.unmap(Self.range(0x10_0000, 0x46000)) == 0x46000)
    #expect(try container.unmap(Self.range(0x10_0000, 0x46000)) == 0)
    try map(container, 0x10_0000, 70)
    #expect(try container.unmap(.wholeSpace) == 0x46000)
  }

  @Test func `starting and stopping twice is nothing, and a query while off is EINVAL`() throws {
    let container = SimulatedType1(memory: memory)
    _ = container.attachMediatedDevice("mdev")
    try map(container, 0x10_0000, 70)
    let log = container.dirtyLogs[0]
    let window = Self.range(0x10_0000, 0x46000)
    #expect(errno { () throws(ContainerError) in _ = try query(container, window) } == Self.einval)
    var bitmap = ContainerDriver.bitmap(window)
    #expect(
      errno { () throws(ContainerError) in try container.unmap(reportingInto: &bitmap) }
        == Self.einval)
    try log.start(logging: [], pageSize: .fourKiB)
    try log.start(logging: [], pageSize: .fourKiB)
    #expect(try query(container, window) == [])
    try log.stop()
    try log.stop()
    #expect(errno { () throws(ContainerError) in _ = try query(container, window) } == Self.einval)
  }

  @Test func `a window may cross holes and hold nothing, but cuts no mapping`() throws {
    let container = SimulatedType1(memory: memory, queryBitmapByteCountMax: 16)
    let port = container.attachMediatedDevice("mdev")
    try map(container, 0x10_0000, 70)
    try map(container, 0x14_7000, 10)
    try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    #expect(port.write([1], at: IOVA(0x14_7000)) != nil)
    #expect(try query(container, Self.range(0x10_0000, 81 << 12)) == [0x147])
    #expect(try query(container, Self.range(0x40_0000, 1 << 12)) == [])
    let cut = Self.range(0x10_0000, 72 << 12)
    #expect(errno { () throws(ContainerError) in _ = try query(container, cut) } == Self.einval)
    let large = Self.range(0x10_0000, 129 << 12)
    #expect(errno { () throws(ContainerError) in _ = try query(container, large) } == Self.einval)
  }

  @Test func `a stop gives up what was not read, and the next start is from clean`() throws {
    let container = SimulatedType1(memory: memory)
    let port = container.attachMediatedDevice("mdev")
    try map(container, 0x10_0000, 70)
    try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    #expect(port.write([1], at: IOVA(0x10_1000)) != nil)
    port.unpin(Self.range(0x10_1000, 0x1000))
    try container.dirtyLogs[0].stop()
    try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    #expect(try query(container, Self.range(0x10_0000, 70 << 12)) == [])
  }

  @Test func `a pinned page is dirty in every read, an unpinned one once more`() throws {
    let container = SimulatedType1(memory: memory)
    let port = container.attachMediatedDevice("mdev", pinsOnDemand: false)
    let window = Self.range(0x10_0000, 70 << 12)
    try map(container, 0x10_0000, 70)
    #expect(port.write([1], at: IOVA(0x10_3000)) == nil)
    try port.pin(Self.range(0x10_3000, 0x2000))
    #expect(port.write([1], at: IOVA(0x10_3000)) != nil)
    try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    #expect(container.dirtyLogs[0].capabilities.scope == .pinned)
    #expect(try query(container, window) == [0x103, 0x104])
    port.unpin(Self.range(0x10_3000, 0x1000))
    #expect(try query(container, window) == [0x103, 0x104])
    #expect(try query(container, window) == [0x104])
    #expect(port.write([1], at: IOVA(0x10_3000)) == nil)
    var bitmap = ContainerDriver.bitmap(window)
    #expect(try container.unmap(reportingInto: &bitmap) == 70 << 12)
    #expect(bitmap.dirtyCount == 1 && bitmap.contains(IOVA(0x10_4000)))
    #expect(port.pinnedPageCount == 0)
  }

  @Test func `a pin of what is not mapped writable is refused`() throws {
    let container = SimulatedType1(memory: memory)
    let port = container.attachMediatedDevice("mdev")
    try map(container, 0x10_0000, 1, .read)
    #expect(
      errno { () throws(ContainerError) in try port.pin(Self.range(0x10_0000, 4096)) }
        == ContainerErrno.eperm)
    #expect(
      errno { () throws(ContainerError) in try port.pin(Self.range(0x20_0000, 4096)) }
        == Self.einval)
  }

  @Test func `one plain device makes everything dirty, and leaves everything dirty once`() throws {
    let container = SimulatedType1(memory: memory)
    let mediated = container.attachMediatedDevice("mdev")
    try map(container, 0x10_0000, 2)
    try map(container, 0x10_2000, 1, .read)
    try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    let window = Self.range(0x10_0000, 3 << 12)
    #expect(try query(container, window) == [])
    let plain = container.attachDevice("nic")
    #expect(container.dirtyLogs[0].capabilities.scope == .everythingMapped)
    for _ in 0..<2 { #expect(try query(container, window) == [0x100, 0x101, 0x102]) }
    container.detach(plain)
    #expect(plain.write([1], at: IOVA(0x10_0000)) == nil)
    #expect(try query(container, window) == [0x100, 0x101, 0x102])
    #expect(mediated.write([1], at: IOVA(0x10_1000)) != nil)
    #expect(try query(container, window) == [0x101])
  }

  @Test func `false tail bits lie in the word of the mapping's end and outside it`() throws {
    let container = SimulatedType1(memory: memory, reportsFalseTailBits: true)
    let port = container.attachMediatedDevice("mdev")
    try map(container, 0x10_0000, 70)
    try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    #expect(port.write([1], at: IOVA(0x14_5000)) != nil)
    let pages = try query(container, Self.range(0x10_0000, 256 << 12))
    #expect(pages == Array(0x145..<0x180))
  }

  @Test func `stale bits of a mapping show in the one that follows, and nowhere without them`()
    throws
  {
    for keepsStaleBits in [false, true] {
      let container = SimulatedType1(memory: memory, keepsStaleBits: keepsStaleBits)
      let port = container.attachMediatedDevice("mdev", pinsOnDemand: false)
      // Two mappings of 10 pages, behind a gap of 3 that shifts both.
      try map(container, 0x10_3000, 10)
      try map(container, 0x10_d000, 10)
      try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
      try port.pin(Self.range(0x10_c000, 4096))
      port.unpin(Self.range(0x10_c000, 4096))
      let window = Self.range(0x10_0000, 64 << 12)
      #expect(try query(container, window) == [0x10c])
      // Bit 9 of the first mapping was left at 12, two past its last: shifted by 3 it lies at 15.
      let pages = try query(container, window)
      #expect(keepsStaleBits ? pages.contains(0x10f) : pages.isEmpty)
      #expect(try query(container, window).contains(0x112) == keepsStaleBits)
    }
  }
}
