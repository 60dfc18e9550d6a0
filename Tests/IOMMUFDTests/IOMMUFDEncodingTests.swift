import Addressing
import DMAContainer
import IOMMUFD
import TestSupport
import Testing

/// Every request, byte for byte as linux/iommufd.h and linux/vfio.h lay it out.
@Suite struct IOMMUFDEncodingTests {
  /// Little-endian.
  private static func word(_ value: UInt32) -> [UInt8] { bytes(UInt64(value), 4) }
  private static func long(_ value: UInt64) -> [UInt8] { bytes(value, 8) }
  private static func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
  }

  private func expect(
    _ kernel: FakeKernel, _ request: IOMMUFDRequest, _ parts: [[UInt8]],
    at location: SourceLocation = #_sourceLocation
  ) {
    let bytes = kernel.lastCall(request)
    #expect(bytes == parts.flatMap { $0 }, "\(request)", sourceLocation: location)
  }

  @Test func `the numbers are the kernel's`() {
    let numbers: [(IOMMUFDRequest, UInt32)] = [
      (.destroy, 0x3B80), (.allocateIOAS, 0x3B81), (.iovaRanges, 0x3B84), (.map, 0x3B85),
      (.unmap, 0x3B86), (.option, 0x3B87), (.allocateHWPT, 0x3B89), (.hardwareInformation, 0x3B8A),
      (.setDirtyTracking, 0x3B8B), (.getDirtyBitmap, 0x3B8C), (.mapFile, 0x3B8F), (.bind, 0x3B76),
      (.attach, 0x3B77), (.detach, 0x3B78),
    ]
    for (request, number) in numbers { #expect(request.number == number, "\(request)") }
  }

  @Test func `setting up an IOAS and a device`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let container = try World.container(kernel)
    let ioas = container.ioas
    expect(kernel, .allocateIOAS, [Self.word(12), Self.word(0), Self.word(0)])
    expect(
      kernel, .option,
      [Self.word(24), Self.word(1), [0, 0], [0, 0], Self.word(ioas), Self.long(0)])
    let device = try container.attachDevice("nic", path: World.nic)
    let iommufd = UInt32(container.descriptor.rawValue)
    expect(kernel, .bind, [Self.word(16), Self.word(0), Self.word(iommufd), Self.word(0)])
    expect(
      kernel, .hardwareInformation,
      [
        Self.word(40), Self.word(0), Self.word(device.id), Self.word(0), Self.long(0),
        Self.word(0), Self.word(0), Self.long(0),
      ])
    expect(
      kernel, .allocateHWPT,
      [
        Self.word(48), Self.word(2), Self.word(device.id), Self.word(ioas), Self.word(0),
        Self.word(0), Self.word(0), Self.word(0), Self.long(0), Self.word(0), Self.word(0),
      ])
    let hwpt = try #require(device.log as? HWPTDirtyLog)
    expect(kernel, .attach, [Self.word(12), Self.word(0), Self.word(hwpt.id)])
    let ranges = try #require(kernel.lastCall(.iovaRanges))
    #expect(
      Array(ranges[0..<16])
        == [Self.word(32), Self.word(ioas), Self.word(32), Self.word(0)].flatMap { $0 })
    try container.detachDevice(device)
    expect(kernel, .detach, [Self.word(8), Self.word(0)])
    expect(kernel, .destroy, [Self.word(8), Self.word(hwpt.id)])
  }

  @Test func `map and unmap`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let byFile = try World.container(kernel)
    try byFile.map(World.request(kernel, 0x100, 4, ram: 2))
    expect(
      kernel, .mapFile,
      [
        Self.word(40), Self.word(7), Self.word(byFile.ioas),
        Self.word(UInt32(FakeKernel.memoryFile)), Self.long(0x2000), Self.long(0x4000),
        Self.long(0x10_0000),
      ])
    try byFile.unmap(World.range(0x100, 4))
    expect(
      kernel, .unmap,
      [Self.word(24), Self.word(byFile.ioas), Self.long(0x10_0000), Self.long(0x4000)])
    try byFile.unmap(.wholeSpace)
    expect(
      kernel, .unmap, [Self.word(24), Self.word(byFile.ioas), Self.long(0), Self.long(.max)])
    let byAddress = try World.container(kernel, byFile: false)
    for (permissions, flags) in [(Permissions.read, 5), (.write, 3)] as [(Permissions, UInt32)] {
      let page: UInt64 = flags == 5 ? 0x200 : 0x300
      try byAddress.map(World.request(kernel, page, 1, ram: 1, permissions: permissions))
      expect(
        kernel, .map,
        [
          Self.word(40), Self.word(flags), Self.word(byAddress.ioas), Self.word(0),
          Self.long(FakeKernel.hvaFirst.rawValue + 0x1000), Self.long(0x1000),
          Self.long(page << 12),
        ])
    }
  }

  @Test func `dirty tracking`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let container = try World.container(kernel)
    let device = try container.attachDevice("nic", path: World.nic)
    let hwpt = try #require(device.log as? HWPTDirtyLog)
    try hwpt.start(logging: [], pageSize: .fourKiB)
    expect(
      kernel, .setDirtyTracking, [Self.word(16), Self.word(1), Self.word(hwpt.id), Self.word(0)])
    for (clear, flags) in [(true, 0), (false, 1)] as [(Bool, UInt32)] {
      _ = try World.query(hwpt, 0x100, 70, clear: clear)
      let bytes = try #require(kernel.lastCall(.getDirtyBitmap))
      let expected = [
        Self.word(48), Self.word(hwpt.id), Self.word(flags), Self.word(0), Self.long(0x10_0000),
        Self.long(70 << 12), Self.long(4096),
      ]
      #expect(bytes.count == 48)
      #expect(Array(bytes[0..<40]) == expected.flatMap { $0 })
      // Bitmaps begin on a page.
      #expect(bytes[40] == 0 && bytes[41] & 0xf == 0)
    }
    try hwpt.stop()
    expect(
      kernel, .setDirtyTracking, [Self.word(16), Self.word(0), Self.word(hwpt.id), Self.word(0)])
  }

  /// The fake checks what it is sent, so that an encoding that is wrong does not pass for right.
  @Test func `the fake kernel refuses a structure that is not its own`() throws {
    let kernel = FakeKernel()
    let iommufd = kernel.open("/dev/iommu")
    var flagged = Self.word(12) + Self.word(1) + Self.word(0)
    #expect(FakeBytes.control(kernel, iommufd, .allocateIOAS, &flagged) == -95)
    var lying = Self.word(13) + Self.word(0) + Self.word(0)
    #expect(FakeBytes.control(kernel, iommufd, .allocateIOAS, &lying) == -22)
    var right = Self.word(12) + Self.word(0) + Self.word(0)
    #expect(FakeBytes.control(kernel, iommufd, .allocateIOAS, &right) == 0)
    #expect(right[8] != 0)
  }
}
