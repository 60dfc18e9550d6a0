import DeviceMigration
import Simulation
import TestSupport
import Testing

@Suite struct PCIConfigurationTests {
  static let bars = [
    SimulatedBar(0, .memory32, byteCount: 0x4000), SimulatedBar(1, .io, byteCount: 0x20),
    SimulatedBar(2, .memory64, byteCount: 1 << 33, isPrefetchable: true),
    SimulatedBar(4, .memory32, byteCount: 0x1000),
  ]
  static let windows = PCIWindows(
    memory: [0xc000_0000...0xfebf_ffff, 0x80_0000_0000...0xff_ffff_ffff], io: [0x1000...0xffff])

  static func space(
    _ bars: [SimulatedBar] = bars, device: UInt16 = 0x1041, hasMSI: Bool = true, msix: Int = 8
  ) -> SimulatedConfigurationSpace {
    SimulatedConfigurationSpace(
      name: "nic0", device: device, bars: bars, hasMSI: hasMSI, msixEntryCount: msix)
  }

  /// What a guest does: places BARs, sets up both kinds of interrupt, turns the device on.
  static func configured(
    _ space: SimulatedConfigurationSpace, bar0: UInt32 = 0xc000_0000, bar1: UInt32 = 0xc000,
    bar2: UInt64 = 0x80_0000_0000, bar4: UInt32 = 0xc000_4000, command: UInt32 = 0x507
  ) throws -> SimulatedConfigurationSpace {
    try space.writeConfiguration(bar0, at: 0x10, byteCount: 4)
    try space.writeConfiguration(bar1, at: 0x14, byteCount: 4)
    try space.writeConfiguration(UInt32(truncatingIfNeeded: bar2), at: 0x18, byteCount: 4)
    try space.writeConfiguration(UInt32(bar2 >> 32), at: 0x1c, byteCount: 4)
    try space.writeConfiguration(bar4, at: 0x20, byteCount: 4)
    if space.content.bytes[0x50] == 5 {
      try space.writeConfiguration(0xfee0_1000, at: 0x54, byteCount: 4)
      try space.writeConfiguration(1, at: 0x58, byteCount: 4)
      try space.writeConfiguration(0x41, at: 0x5c, byteCount: 2)
      try space.writeConfiguration(0x5, at: 0x60, byteCount: 4)
      try space.writeConfiguration(0x31, at: 0x52, byteCount: 2)
    }
    for index in space.content.entries.indices.prefix(3) {
      try space.writeMSIXEntry(
        MSIXEntry(address: 0xfee0_0000 + UInt64(index) << 12, data: UInt32(index) + 7, control: 0),
        at: index)
    }
    if !space.content.entries.isEmpty {
      try space.writeConfiguration(0x8000, at: 0x72, byteCount: 2)
    }
    try space.writeConfiguration(command, at: 4, byteCount: 2)
    return space
  }

  static func saved(
    _ space: SimulatedConfigurationSpace
  ) throws -> [UInt8] {
    try PCIConfiguration(space: space, windows: windows).save(deviceName: "nic0")
  }

  /// Restores into `space`; the fault by which it was refused.
  static func fault(
    _ bytes: [UInt8], into space: SimulatedConfigurationSpace, windows: PCIWindows = windows
  ) -> PCIFault? {
    let configuration = PCIConfiguration(space: space, windows: windows)
    do throws(DeviceError) {
      try DeviceBytes.reading(bytes) { (span) throws(DeviceError) in
        try configuration.restore(span, deviceName: "nic0")
      }
      return nil
    } catch {
      guard case .configuration(let fault) = error.reason else { return nil }
      return fault
    }
  }

  @Test func `the configuration arrives whole, interrupts and both BAR widths`() throws {
    let source = try Self.configured(Self.space())
    let destination = Self.space()
    #expect(Self.fault(try Self.saved(source), into: destination) == nil)
    #expect(destination.content.bytes == source.content.bytes)
    #expect(destination.content.entries == source.content.entries)
    // A device that is configured already is overwritten, not merged.
    let other = try Self.configured(Self.space(), bar0: 0xd000_0000, command: 0x6)
    #expect(Self.fault(try Self.saved(source), into: other) == nil)
    #expect(other.content.bytes == source.content.bytes)
  }

  @Test func `BARs are written with decoding off, then interrupts, then the command`() throws {
    let destination = try Self.configured(Self.space(), bar0: 0xd000_0000)
    let before = destination.writes.count
    #expect(Self.fault(try Self.saved(Self.configured(Self.space())), into: destination) == nil)
    let writes = Array(destination.writes[before...])
    #expect(Array(writes.prefix(6)) == [0x04, 0x10, 0x14, 0x18, 0x1c, 0x20])
    #expect(writes.last == 0x04)
    let interrupts = writes.dropFirst(6).dropLast()
    #expect(interrupts.allSatisfy { $0 >= 0x50 })
    // Enabled after address, data and mask; entries written between two writes of the control.
    #expect(Array(interrupts.prefix(6)) == [0x52, 0x54, 0x58, 0x5c, 0x60, 0x52])
    #expect(Array(interrupts.dropFirst(6)) == [0x72] + (0..<8).map { 0x1000 + $0 } + [0x72])
  }

  @Test func `what does not fit is refused by name and nothing is written`() throws {
    let source = try Self.configured(Self.space())
    let good = try Self.saved(source)
    func refusal(_ bytes: [UInt8], _ space: SimulatedConfigurationSpace) -> PCIFault? {
      let fault = Self.fault(bytes, into: space)
      #expect(space.writes.isEmpty)
      return fault
    }
    #expect(
      refusal(good, Self.space(device: 0x1042))
        == .wrongDevice(saved: 0x1041_1af4, present: 0x1042_1af4))
    let smaller = Self.bars.dropLast() + [SimulatedBar(4, .memory32, byteCount: 0x800)]
    #expect(
      refusal(good, Self.space(Array(smaller)))
        == .barSize(index: 4, saved: 0x1000, present: 0x800))
    #expect(
      refusal(good, Self.space(Self.bars.dropLast()))
        == .barType(index: 4, saved: "32-bit memory", present: "absent"))
    #expect(
      refusal(good, Self.space(Self.bars + [SimulatedBar(5, .io, byteCount: 16)]))
        == .barType(index: 5, saved: "absent", present: "I/O"))
    #expect(
      refusal(good, Self.space(msix: 4))
        == .capability("MSI-X", detail: "8 vectors were saved and 4 vectors are here"))
    #expect(
      refusal(good, Self.space(hasMSI: false))
        == .capability("MSI", detail: "it is not the same on both sides"))
    let overlapping = try Self.saved(Self.configured(Self.space(), bar4: 0xc000_3000))
    #expect(
      refusal(overlapping, Self.space())
        == .barOverlap(first: 0, second: 4, address: 0xc000_3000))
    let outside = try Self.saved(Self.configured(Self.space(), bar4: 0x1000_0000))
    #expect(
      refusal(outside, Self.space())
        == .barOutsideWindow(index: 4, address: 0x1000_0000, byteCount: 0x1000))
    let ioOutside = try Self.saved(Self.configured(Self.space(), bar1: 0x400))
    #expect(
      refusal(ioOutside, Self.space())
        == .barOutsideWindow(index: 1, address: 0x400, byteCount: 0x20))
    let across = try Self.saved(Self.configured(Self.space(), bar2: 0xfe_0000_0000 + 1 << 40))
    #expect(
      refusal(across, Self.space())
        == .barOutsideWindow(index: 2, address: 0x1fe_0000_0000, byteCount: 1 << 33))
  }

  @Test func `a BAR nobody placed is left alone while its space is off, and refused while on`()
    throws
  {
    let off = try Self.saved(Self.configured(Self.space(), bar1: 0, command: 0x6))
    #expect(Self.fault(off, into: Self.space()) == nil)
    let on = try Self.saved(Self.configured(Self.space(), bar1: 0, command: 0x7))
    #expect(
      Self.fault(on, into: Self.space())
        == .barOutsideWindow(index: 1, address: 0, byteCount: 0x20))
  }

  @Test func `a device without interrupts or BARs restores too`() throws {
    let source = Self.space([], hasMSI: false, msix: 0)
    let destination = Self.space([], hasMSI: false, msix: 0)
    try source.writeConfiguration(4, at: 4, byteCount: 2)
    #expect(Self.fault(try Self.saved(source), into: destination) == nil)
    #expect(destination.content.bytes == source.content.bytes)
  }
}
