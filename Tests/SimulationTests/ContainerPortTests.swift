import Addressing
import DMAContainer
import Simulation
import TestSupport
import Testing

/// What a device sees of memory.
@Suite struct ContainerPortTests {
  let memory = ContainerTestMemory()

  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }

  func map(
    _ container: any DMAContainer, _ page: UInt64, _ pages: UInt64, ram: UInt64,
    _ permissions: Permissions = .readWrite
  ) throws {
    try container.map(
      MapRequest(
        iova: Self.range(page, pages), gpaFirst: GPA(memory.gpa.first.rawValue + (ram << 12)),
        hvaFirst: nil, permissions: permissions))
  }

  @Test func `an access over several mappings lands page by page, and is recorded`() throws {
    let container = SimulatedIOMMUFD(memory: memory, recordsWrites: true)
    let port = container.attachDevice("nic")
    try map(container, 0x100, 1, ram: 9)
    try map(container, 0x101, 1, ram: 3)
    let content = (0..<0x1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    #expect(port.write(content, at: IOVA(0x10_0800)) == GPA(0x4000_9800))
    #expect(memory.bytes(at: GPA(0x4000_9800), count: 0x800) == Array(content[..<0x800]))
    #expect(memory.bytes(at: GPA(0x4000_3000), count: 0x800) == Array(content[0x800...]))
    #expect(port.read(0x1000, at: IOVA(0x10_0800)) == content)
    #expect(
      container.recordedWrites() == [
        DeviceWrite(device: "nic", iovaPage: 0x100, gpaPage: 0x40009),
        DeviceWrite(device: "nic", iovaPage: 0x101, gpaPage: 0x40003),
      ])
    container.forgetWrites()
    #expect(container.recordedWrites() == [])
  }

  @Test func `a write is whole or not at all`() throws {
    let container = SimulatedIOMMUFD(memory: memory, recordsWrites: true)
    let port = container.attachDevice("nic")
    try map(container, 0x100, 1, ram: 0)
    try map(container, 0x101, 1, ram: 1, .read)
    // Behind the third mapping there is no RAM, as behind a device's BAR.
    try map(container, 0x0ff, 1, ram: 1 << 20)
    let bytes = [UInt8](repeating: 5, count: 16)
    for address in [0x10_0ff8, 0x0f_fff8, 0x10_1000, 0x10_1ff8, 0x20_0000] as [UInt64] {
      #expect(port.write(bytes, at: IOVA(address)) == nil)
    }
    #expect(port.write(bytes, at: IOVA(UInt64.max - 7)) == nil)
    #expect(memory.bytes(at: memory.gpa.first, count: 4096) == [UInt8](repeating: 0, count: 4096))
    #expect(container.recordedWrites() == [])
    #expect(port.read(16, at: IOVA(0x10_0ff8)) == [UInt8](repeating: 0, count: 16))
    #expect(port.read(16, at: IOVA(0x10_1ff8)) == nil)
  }
}
