import Addressing
import DMAContainer
import PageBitmap
import Simulation
import TestSupport
import Testing

/// The rules of an iommufd IOAS and its HWPTs.
@Suite struct ContainerIOMMUFDTests {
  let memory = ContainerTestMemory(pages: 2048)

  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }

  func map(_ container: SimulatedIOMMUFD, _ page: UInt64, _ pages: UInt64, ram: UInt64 = 0) throws {
    try container.map(
      MapRequest(
        iova: Self.range(page, pages), gpaFirst: GPA(memory.gpa.first.rawValue + (ram << 12)),
        hvaFirst: nil, permissions: .readWrite))
  }

  func query(
    _ log: any DirtyLog, _ page: UInt64, _ pages: UInt64, clear: Bool = true
  ) throws -> [UInt64] {
    var bitmap = ContainerDriver.bitmap(Self.range(page, pages))
    try log.query(&bitmap, clear: clear)
    var found: [UInt64] = []
    bitmap.forEachDirtyRun { found += Array($0.first.rawValue >> 12...$0.last.rawValue >> 12) }
    return found
  }

  @Test func `unmap is ENOENT for a cut and for nothing, and takes everything at once`() throws {
    let container = SimulatedIOMMUFD(memory: memory)
    for index in 0..<4 as Range<UInt64> { try map(container, index * 16, 8) }
    for range in [Self.range(0, 4), Self.range(4, 20), Self.range(8, 8), Self.range(100, 1)] {
      do {
        try container.unmap(range)
        Issue.record("\(range) was unmapped")
      } catch {
        #expect(error.errno == ContainerErrno.enoent)
      }
    }
    #expect(container.mappingCount == 4)
    #expect(try container.unmap(Self.range(8, 32)) == 16 << 12)
    #expect(try container.unmap(.wholeSpace) == 16 << 12)
    #expect(try container.unmap(.wholeSpace) == 0)
  }

  @Test func `a query ends silently at the first hole and leaves what follows`() throws {
    let container = SimulatedIOMMUFD(memory: memory)
    let hwpt = container.allocateHWPT("hwpt")
    let port = container.attachDevice("nic", to: hwpt)
    try map(container, 0x100, 16)
    try map(container, 0x111, 16)
    try hwpt.start(logging: [], pageSize: .fourKiB)
    #expect(port.write([1], at: IOVA(0x10_3000)) != nil)
    #expect(port.write([1], at: IOVA(0x11_4000)) != nil)
    #expect(try query(hwpt, 0x100, 33) == [0x103])
    #expect(try query(hwpt, 0x110, 17) == [])
    #expect(try query(hwpt, 0x111, 16) == [0x114])
    #expect(try query(hwpt, 0x111, 16) == [])
  }

  @Test func `a query without clear leaves the log, a start clears it, off says nothing`() throws {
    let container = SimulatedIOMMUFD(memory: memory)
    let hwpt = container.allocateHWPT("hwpt")
    let port = container.attachDevice("nic", to: hwpt)
    try map(container, 0x100, 16)
    #expect(port.write([1], at: IOVA(0x10_3000)) != nil)
    #expect(try query(hwpt, 0x100, 16) == [])
    try hwpt.start(logging: [], pageSize: .fourKiB)
    #expect(port.write([1], at: IOVA(0x10_3000)) != nil)
    for _ in 0..<2 { #expect(try query(hwpt, 0x100, 16, clear: false) == [0x103]) }
    try hwpt.start(logging: [], pageSize: .fourKiB)
    #expect(try query(hwpt, 0x100, 16) == [])
    #expect(port.write([1], at: IOVA(0x10_3000)) != nil)
    try hwpt.stop()
    #expect(try query(hwpt, 0x100, 16) == [])
  }

  @Test func `each HWPT knows the writes of its own devices`() throws {
    let container = SimulatedIOMMUFD(memory: memory)
    let first = container.allocateHWPT("first")
    let second = container.allocateHWPT("second")
    let nic = container.attachDevice("nic", to: first)
    let gpu = container.attachDevice("gpu", to: second)
    let log = SimulatedDeviceLog(name: "disk log")
    let disk = container.attachDevice("disk", to: second, log: log)
    #expect(container.dirtyLogs.map(\.name) == ["first", "second", "disk log"])
    try map(container, 0x100, 16)
    try first.start(logging: [], pageSize: .fourKiB)
    try second.start(logging: [], pageSize: .fourKiB)
    try log.start(logging: [Self.range(0x100, 16)], pageSize: .fourKiB)
    #expect(nic.write([1], at: IOVA(0x10_0000)) != nil)
    #expect(gpu.write([1], at: IOVA(0x10_1000)) != nil)
    #expect(disk.write([1], at: IOVA(0x10_2000)) != nil)
    #expect(try query(first, 0x100, 16) == [0x100])
    #expect(try query(second, 0x100, 16) == [0x101, 0x102])
    #expect(try query(log, 0x100, 16) == [0x102])
    container.detach(gpu)
    #expect(container.dirtyLogs.map(\.name) == ["first", "disk log"])
  }

  @Test func `a device on the IOAS itself makes everything mapped dirty`() throws {
    let container = SimulatedIOMMUFD(memory: memory)
    _ = container.attachDevice("nic")
    try map(container, 0x100, 2)
    try map(container, 0x104, 2)
    let log = container.dirtyLogs[0]
    #expect(log.capabilities.scope == .everythingMapped)
    try log.start(logging: [], pageSize: .fourKiB)
    for _ in 0..<2 { #expect(try query(log, 0x100, 6) == [0x100, 0x101, 0x104, 0x105]) }
  }

  @Test(arguments: [false, true])
  func `a huge entry is reported whole, and cleared whole by a window that begins inside it`(
    losesCutEntries: Bool
  ) throws {
    let container = SimulatedIOMMUFD(memory: memory)
    let hwpt = container.allocateHWPT(
      "hwpt", entrySizes: PageSizeSet(.fourKiB, .twoMiB), losesCutEntries: losesCutEntries)
    let port = container.attachDevice("nic", to: hwpt)
    // 2 MiB aligned on both sides, with 16 small pages after it.
    try map(container, 0x200, 528)
    try hwpt.start(logging: [], pageSize: .fourKiB)
    #expect(port.write([1], at: IOVA(0x20_5000)) != nil)
    #expect(port.write([1], at: IOVA(0x40_1000)) != nil)
    #expect(try query(hwpt, 0x200, 528) == Array(0x200..<0x400) + [0x401])
    #expect(port.write([1], at: IOVA(0x20_5000)) != nil)
    #expect(try query(hwpt, 0x202, 526) == (losesCutEntries ? [] : Array(0x202..<0x400)))
    #expect(try query(hwpt, 0x200, 528) == [])
    // Not aligned with its GPA: small entries.
    try map(container, 0x800, 512, ram: 1)
    #expect(port.write([1], at: IOVA(0x80_5000)) != nil)
    #expect(try query(hwpt, 0x800, 512) == [0x805])
  }
}
