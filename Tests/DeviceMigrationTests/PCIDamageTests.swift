import DeviceMigration
import Simulation
import TestSupport
import Testing

/// Saved configurations that are cut, flipped and forged.
@Suite struct PCIDamageTests {
  /// CRC-32C, bit by bit: the plain form of what seals the bytes.
  static func crc32c(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    var value = UInt32.max
    for byte in bytes {
      value ^= UInt32(byte)
      for _ in 0..<8 { value = value & 1 == 0 ? value >> 1 : value >> 1 ^ 0x82f6_3b78 }
    }
    return ~value
  }

  static func resealed(_ bytes: [UInt8]) -> [UInt8] {
    let body = bytes.dropLast(4)
    let sum = crc32c(body)
    return Array(body) + (0..<4).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) }
  }

  static func good() throws -> [UInt8] {
    try PCIConfigurationTests.saved(
      PCIConfigurationTests.configured(PCIConfigurationTests.space()))
  }

  @Test func `the checksum is CRC-32C`() throws {
    #expect(Self.crc32c(Array("123456789".utf8)[...]) == 0xe306_9283)
    let bytes = try Self.good()
    #expect(Self.resealed(bytes) == bytes)
  }

  @Test func `every cut and every flipped bit is refused and writes nothing`() throws {
    let bytes = try Self.good()
    let space = PCIConfigurationTests.space()
    for count in 0..<bytes.count {
      #expect(PCIConfigurationTests.fault(Array(bytes[..<count]), into: space) != nil)
    }
    for bit in 0..<(bytes.count * 8) {
      var flipped = bytes
      flipped[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(PCIConfigurationTests.fault(flipped, into: space) != nil, "bit \(bit)")
    }
    #expect(PCIConfigurationTests.fault(bytes + [0], into: space) != nil)
    #expect(
      PCIConfigurationTests.fault([UInt8](repeating: 0, count: 1 << 20), into: space) != nil)
    #expect(space.writes.isEmpty)
    #expect(PCIConfigurationTests.fault(bytes, into: space) == nil)
  }

  @Test func `a forged configuration is refused, or every BAR it places is where one may be`()
    throws
  {
    let seed = TestSeed.seed(default: 42)
    var random = SeededGenerator(seed: seed)
    let bytes = try Self.good()
    var refused = 0
    var accepted = 0
    for _ in 0..<3000 {
      var forged = bytes
      for _ in 0...random.below(3) {
        // Behind magic, version and count; the count of the body stays what it is.
        forged[10 + random.below(forged.count - 14)] ^= 1 << UInt8(random.below(8))
      }
      if random.once(in: 4) { forged.removeSubrange((20 + random.below(40))...) }
      forged = Self.resealed(forged)
      let space = PCIConfigurationTests.space()
      if PCIConfigurationTests.fault(forged, into: space) != nil {
        refused += 1
        #expect(
          space.writes.isEmpty,
          "\(TestSeed.reproduce(seed, filter: "PCIDamageTests"))")
      } else {
        accepted += 1
        #expect(Self.areBarsInPlace(space))
      }
    }
    #expect(refused > 500 && accepted > 100, "\(refused) refused, \(accepted) accepted")
  }

  @Test func `an address no register could hold is refused by name`() throws {
    // BAR 0 is the first after 10 bytes around and 7 of body: its address follows 11 of its own.
    var misaligned = try Self.good()
    misaligned[29] |= 0x10
    let space = PCIConfigurationTests.space()
    #expect(
      PCIConfigurationTests.fault(Self.resealed(misaligned), into: space)
        == .barMisaligned(index: 0, address: 0xc000_1000, byteCount: 0x4000))
    var wide = try Self.good()
    wide[32] = 0x80
    #expect(
      PCIConfigurationTests.fault(Self.resealed(wide), into: space)
        == .barOutsideWindow(index: 0, address: 0x80_c000_0000, byteCount: 0x4000))
    var version = try Self.good()
    version[4] = 2
    #expect(
      PCIConfigurationTests.fault(Self.resealed(version), into: space) == .unknownVersion(2))
    #expect(space.writes.isEmpty)
  }

  /// Read back from the device, by a check of its own.
  static func areBarsInPlace(_ space: SimulatedConfigurationSpace) -> Bool {
    let bytes = space.content.bytes
    func word(_ offset: Int) -> UInt64 {
      (0..<4).reduce(UInt64(0)) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
    }
    let low = word(0x10) & ~15
    let fourth = word(0x20) & ~15
    let wide = word(0x18) & ~15 | word(0x1c) << 32
    func isIn(_ first: UInt64, _ byteCount: UInt64) -> Bool {
      first == 0 && bytes[4] & 2 == 0
        || PCIConfigurationTests.windows.memory.contains {
          $0.contains(first) && $0.contains(first &+ byteCount - 1)
        }
    }
    let areApart = low + 0x4000 <= fourth || fourth + 0x1000 <= low
    return isIn(low, 0x4000) && isIn(fourth, 0x1000) && isIn(wide, 1 << 33) && areApart
  }

  @Test func `the check of BAR places finds a planted fault`() throws {
    let space = try PCIConfigurationTests.configured(PCIConfigurationTests.space())
    #expect(Self.areBarsInPlace(space))
    try space.writeConfiguration(0xc000_2000, at: 0x20, byteCount: 4)
    #expect(!Self.areBarsInPlace(space))
  }

  @Test func `a device that does not let itself be read or written says so`() throws {
    let bytes = try Self.good()
    let windows = PCIConfigurationTests.windows
    var sawPartial = false
    for call in 0..<200 {
      let space = PCIConfigurationTests.space()
      space.faults.plan(.refuse(.eio), afterCalls: call)
      let device = PCIConfiguration(space: space, windows: windows)
      do throws(DeviceError) {
        try DeviceBytes.reading(bytes) { (span) throws(DeviceError) in
          try device.restore(span, deviceName: "nic0")
        }
        #expect(call > 20 && sawPartial)
        return
      } catch {
        #expect(error.errno == .eio)
        let isPartial = error.outcome.contains("written in part")
        sawPartial = sawPartial || isPartial
        #expect(isPartial || space.writes.isEmpty)
      }
    }
    Issue.record("the restore has no end")
  }

  @Test func `a device's own save and restore keep to its states`() throws {
    for make in [DeviceUnderTest.v2, DeviceUnderTest.v1Configured] {
      let space = try PCIConfigurationTests.configured(PCIConfigurationTests.space())
      let configuration = PCIConfiguration(
        space: space, windows: PCIConfigurationTests.windows)
      let source = make(configuration)
      #expect(throws: DeviceError.self) { try source.device.saveConfiguration() }
      try source.device.beginStopCopy()
      let bytes = try source.device.saveConfiguration() ?? []
      let target = PCIConfigurationTests.space()
      let destination = make(
        PCIConfiguration(space: target, windows: PCIConfigurationTests.windows))
      func restore() throws(DeviceError) {
        try DeviceBytes.reading(bytes) { (span) throws(DeviceError) in
          try destination.device.restoreConfiguration(span)
        }
      }
      #expect(throws: DeviceError.self) { try restore() }
      #expect(target.writes.isEmpty)
      try destination.device.beginResuming()
      try restore()
      #expect(target.content.bytes == space.content.bytes)
    }
  }
}

extension DeviceUnderTest {
  static func v2(_ configuration: PCIConfiguration) -> DeviceUnderTest {
    v2("nic0", configuration: configuration)
  }
  static func v1Configured(_ configuration: PCIConfiguration) -> DeviceUnderTest {
    v1("nic1", configuration: configuration)
  }
}
