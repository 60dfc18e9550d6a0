import Addressing
import DeviceMigration
import Simulation
import TestSupport
import Testing
import VFIOKernel

@Suite struct ConfigurationTests {
  static let windows = PCIWindows(
    memory: [0xc000_0000...0xfebf_ffff, 0x80_0000_0000...0xff_ffff_ffff])

  static func simulated() -> SimulatedConfigurationSpace {
    SimulatedConfigurationSpace(
      name: "nic0",
      bars: [
        SimulatedBar(0, .memory32, byteCount: 0x4000),
        SimulatedBar(2, .memory64, byteCount: 1 << 33, isPrefetchable: true),
      ], msixEntryCount: 4)
  }

  static func space(
    _ simulated: SimulatedConfigurationSpace
  ) throws -> (space: VFIOConfigurationSpace, kernel: FakeKernel) {
    let ram = TestRAM()
    let kernel = FakeKernel(
      container: FakeContainer(SimulatedType1(memory: ram), gpaFirst: ram.gpa.first))
    let device = VFIODevice(
      name: "nic0",
      descriptor: VFIODescriptor(
        kernel.add(.device(FakeDevice(configuration: simulated))), calls: kernel))
    let masked = MSIXEntry(address: 0, data: 0, control: 1)
    let space = try VFIOConfigurationSpace(
      device: device, msixEntries: Array(repeating: masked, count: 4))
    return (space, kernel)
  }

  /// What a guest does.
  private static func configure(_ space: any PCIConfigurationSpace) throws(DeviceError) {
    try space.writeConfiguration(0xc000_0000, at: 0x10, byteCount: 4)
    try space.writeConfiguration(0, at: 0x18, byteCount: 4)
    try space.writeConfiguration(0x80, at: 0x1c, byteCount: 4)
    try space.writeMSIXEntry(MSIXEntry(address: 0xfee0_1000, data: 7, control: 0), at: 2)
    try space.writeConfiguration(0x8000, at: 0x72, byteCount: 2)
    try space.writeConfiguration(0x506, at: 4, byteCount: 2)
  }

  @Test func `a configuration travels by descriptor as it does without one`() throws {
    let direct = Self.simulated()
    try Self.configure(direct)
    let source = try Self.space(Self.simulated())
    try Self.configure(source.space)
    let saved = try PCIConfiguration(space: source.space, windows: Self.windows)
      .save(deviceName: "nic0")
    #expect(
      saved
        == (try PCIConfiguration(space: direct, windows: Self.windows).save(deviceName: "nic0")))
    let target = Self.simulated()
    let destination = try Self.space(target)
    try DeviceBytes.reading(saved) {
      try PCIConfiguration(space: destination.space, windows: Self.windows)
        .restore($0, deviceName: "nic0")
    }
    #expect(target.content.bytes == direct.content.bytes)
    #expect(destination.space.msixEntries == direct.content.entries)
  }

  @Test func `bytes are asked for where and as wide as they are`() throws {
    let (space, kernel) = try Self.space(Self.simulated())
    kernel.plan(nil)
    #expect(try space.readConfiguration(at: 0, byteCount: 2) == 0x1af4)
    #expect(try space.readConfiguration(at: 0, byteCount: 4) == 0x1041_1af4)
    #expect(try space.barByteCount(0) == 0x4000)
    #expect(try space.barByteCount(2) == 1 << 33)
    #expect(try space.barByteCount(3) == 0)
    try space.writeConfiguration(0x0506, at: 4, byteCount: 2)
    #expect(kernel.calls.first?.name == "pread 0")
    #expect(kernel.calls.last?.name == "pwrite 4")
    #expect(kernel.calls.last?.argument == [6, 5])
    for (offset, byteCount) in [(1, 2), (254, 4), (0, 3), (-4, 4), (256, 1)] {
      let error = #expect(throws: DeviceError.self) {
        try space.readConfiguration(at: offset, byteCount: byteCount)
      }
      #expect(error?.errno == .einval)
    }
    #expect(throws: DeviceError.self) { try space.readMSIXEntry(4) }
    #expect(throws: DeviceError.self) {
      try space.writeMSIXEntry(MSIXEntry(address: 0, data: 0, control: 0), at: -1)
    }
  }

  @Test func `a call that fails is named, and a device without configuration too`() throws {
    let (space, kernel) = try Self.space(Self.simulated())
    kernel.plan(.init(ordinal: 1, errno: 5, moment: .before))
    let error = #expect(throws: DeviceError.self) {
      try space.readConfiguration(at: 4, byteCount: 2)
    }
    #expect(error?.description == "device nic0: read configuration byte 4 failed with EIO.")
    let bare = VFIODevice(
      name: "mdev", descriptor: VFIODescriptor(kernel.add(.device(FakeDevice())), calls: kernel))
    #expect(throws: DeviceError.self) { try VFIOConfigurationSpace(device: bare) }
  }
}
