import Addressing
import DMAContainer
import PageBitmap
import Simulation
import TestSupport
import Testing
import VFIOKernel

@Suite struct DeviceDMALogTests {
  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange { Type1World.range(page, pages) }

  /// A device whose writes its log sees, mapped or not.
  struct World {
    let log: DeviceDMALog
    let kernel: FakeKernel
    let simulated: SimulatedDeviceLog
    let port: SimulatedDevicePort

    init(
      loggedPageSize: UInt64? = nil, spanByteCountMax: UInt64? = nil, spanByteCountMin: UInt64 = 0
    ) throws {
      simulated = SimulatedDeviceLog(
        name: "log", spanByteCountMax: spanByteCountMax, spanByteCountMin: spanByteCountMin)
      let ram = TestRAM()
      let type1 = SimulatedType1(memory: ram)
      port = type1.attachDevice("nic", log: simulated)
      try type1.map(
        MapRequest(
          iova: DeviceDMALogTests.range(0x100, 0x80), gpaFirst: ram.gpa.first, hvaFirst: nil,
          permissions: .readWrite))
      kernel = FakeKernel(container: FakeContainer(type1, gpaFirst: ram.gpa.first))
      let number = kernel.add(
        .device(FakeDevice(log: simulated, loggedPageSize: loggedPageSize)))
      let device = VFIODevice(name: "nic", descriptor: VFIODescriptor(number, calls: kernel))
      log = try #require(DeviceDMALog(device: device))
    }

    func dirty(_ window: IOVARange) throws(ContainerError) -> UInt64 {
      var bitmap = ContainerDriver.bitmap(window)
      try log.query(&bitmap, clear: true)
      return bitmap.dirtyCount
    }
  }

  @Test func `the requests are those of the header`() throws {
    let world = try World()
    let feature = world.kernel.calls(.deviceFeature).map(\.argument)
    // PROBE with SET of START and STOP, with GET of REPORT.
    #expect(
      feature == [0x6_0006, 0x6_0007, 0x5_0008].map { Bytes.structure(8 as UInt32, $0 as UInt32) })
    world.kernel.plan(nil)
    try world.log.start(
      logging: [Self.range(0x100, 0x10), Self.range(0x180, 2)], pageSize: .fourKiB)
    _ = try world.dirty(Self.range(0x100, 0x10))
    try world.log.stop()
    let calls = world.kernel.calls(.deviceFeature).map(\.argument)
    #expect(
      calls[0]
        == Bytes.structure(
          32 as UInt32, 0x2_0006 as UInt32, 4096 as UInt64, 2 as UInt32, 0 as UInt32,
          Bytes(calls[0]).u64(24)))
    #expect(
      calls[1]
        == Bytes.structure(
          40 as UInt32, 0x1_0008 as UInt32, 0x10_0000 as UInt64, 0x1_0000 as UInt64,
          4096 as UInt64, Bytes(calls[1]).u64(32)))
    #expect(calls[2] == Bytes.structure(8 as UInt32, 0x2_0007 as UInt32))
  }

  @Test func `the ranges arrive, and what is written inside them is reported once`() throws {
    let world = try World()
    try world.log.start(
      logging: [Self.range(0x100, 0x10), Self.range(0x170, 0x10)], pageSize: .fourKiB)
    #expect(world.simulated.loggedRanges == [Self.range(0x100, 0x10), Self.range(0x170, 0x10)])
    for page in [0x10f, 0x140, 0x17f] as [UInt64] {
      #expect(world.port.touch(IOVA(page << 12)) != nil)
    }
    #expect(try world.dirty(Self.range(0x100, 0x80)) == 2)
    #expect(try world.dirty(Self.range(0x100, 0x80)) == 0)
  }

  @Test func `a report adds to what the bitmap holds`() throws {
    let world = try World()
    try world.log.start(logging: [Self.range(0x100, 0x80)], pageSize: .fourKiB)
    #expect(world.port.touch(IOVA(0x10_1000)) != nil)
    var bitmap = ContainerDriver.bitmap(Self.range(0x100, 0x80))
    bitmap.insert(Self.range(0x102, 1))
    try world.log.query(&bitmap, clear: true)
    #expect(bitmap.dirtyCount == 2)
  }

  @Test func `the page size is a hint, and what the device chose is known`() throws {
    let world = try World(loggedPageSize: 64 << 10)
    #expect(world.log.loggedPageSize == nil)
    try world.log.start(logging: [Self.range(0x100, 0x80)], pageSize: .fourKiB)
    #expect(world.log.loggedPageSize == PageSize(bytes: 64 << 10))
    try world.log.stop()
    #expect(world.log.loggedPageSize == nil)
  }

  @Test func `257 ranges are refused before the kernel is asked`() throws {
    let world = try World()
    let ranges = (0..<257 as Range<UInt64>).map { Self.range($0 * 2, 1) }
    world.kernel.plan(nil)
    let error = #expect(throws: ContainerError.self) {
      try world.log.start(logging: ranges, pageSize: .fourKiB)
    }
    #expect(error?.errno == ContainerErrno.e2big)
    #expect(world.kernel.calls == [])
    try world.log.start(logging: Array(ranges.dropLast()), pageSize: .fourKiB)
    #expect(world.simulated.loggedRanges.count == 256)
  }

  @Test func `more than the device can log is said in words`() throws {
    let world = try World(spanByteCountMax: 1 << 16)
    let error = #expect(throws: ContainerError.self) {
      try world.log.start(logging: [Self.range(0, 0x20)], pageSize: .fourKiB)
    }
    #expect(error?.errno == ContainerErrno.eopnotsupp)
    #expect(error?.detail == "more bytes than the device can log, or too few")
  }

  @Test func `windows are whole words of the largest page a device may choose`() throws {
    let world = try World()
    #expect(world.log.capabilities.granule.size(startedWith: .fourKiB).bytes == 4 << 20)
  }

  /// Its answers would be for larger pieces than the windows, and their ends be lost.
  @Test func `a device that chooses larger pages than windows are made for is stopped again`()
    throws
  {
    let world = try World(loggedPageSize: 2 << 20)
    let error = #expect(throws: ContainerError.self) {
      try world.log.start(logging: [Self.range(0x100, 0x80)], pageSize: .fourKiB)
    }
    #expect(error?.detail.contains("in pages of 2 MiB") == true)
    #expect(world.simulated.loggedRanges == [])
    #expect(throws: ContainerError.self) { try world.dirty(Self.range(0x100, 0x80)) }
  }

  @Test(arguments: [0, 12_345, 3 << 12] as [UInt64])
  func `a device that names no size of a page is stopped again, and the number is said`(
    bytes: UInt64
  ) throws {
    let world = try World(loggedPageSize: bytes)
    let error = #expect(throws: ContainerError.self) {
      try world.log.start(logging: [Self.range(0x100, 0x80)], pageSize: .fourKiB)
    }
    #expect(error?.detail.contains("in pages of \(bytes) bytes") == true)
    #expect(world.simulated.loggedRanges == [] && world.log.loggedPageSize == nil)
    #expect(throws: ContainerError.self) { try world.dirty(Self.range(0x100, 0x80)) }
  }

  @Test func `ranges that hold too few bytes for the device are padded`() throws {
    let world = try World(spanByteCountMin: 1 << 26)
    let ranges = [Self.range(0x100, 0x40), Self.range(0x200, 0x40)]
    try world.log.start(logging: ranges, pageSize: .fourKiB)
    let logged = world.simulated.loggedRanges
    #expect(logged.count == 2)
    #expect(logged[0] == ranges[0])
    #expect(logged[1].first == ranges[1].first)
    #expect(logged.reduce(0) { $0 + $1.lastOffset + 1 } == 1 << 28)
    #expect(world.port.touch(IOVA(0x10_1000)) != nil)
    #expect(try world.dirty(ranges[0]) == 1)
  }

  /// One error and the log is corrupt: whatever it says afterwards.
  @Test func `after a report that failed none succeeds until the log is started anew`() throws {
    let world = try World()
    let all = Self.range(0x100, 0x80)
    try world.log.start(logging: [all], pageSize: .fourKiB)
    world.kernel.plan(.init(ordinal: 1, errno: ContainerErrno.enomem, moment: .before))
    for _ in 0..<3 {
      let error = #expect(throws: ContainerError.self) { try world.dirty(all) }
      #expect(error?.errno == ContainerErrno.enomem)
      #expect(error?.detail.contains("started anew") == true)
    }
    #expect(world.kernel.calls.count == 1, "a broken log is not asked again")
    #expect(throws: ContainerError.self) {
      try world.log.start(logging: [all], pageSize: .fourKiB)
    }
    try world.log.stop()
    try world.log.start(logging: [all], pageSize: .fourKiB)
    #expect(try world.dirty(all) == 0)
  }

  /// Whether it runs on or not: its own word is what counts.
  @Test(arguments: [false, true])
  func `a log that could not be stopped is not taken for stopped`(hasStopped: Bool) throws {
    let world = try World()
    let all = Self.range(0x100, 0x80)
    try world.log.start(logging: [all], pageSize: .fourKiB)
    world.kernel.plan(
      .init(ordinal: 1, errno: ContainerErrno.eio, moment: hasStopped ? .after : .before))
    #expect(throws: ContainerError.self) { try world.log.stop() }
    #expect(throws: ContainerError.self) {
      try world.log.start(logging: [all], pageSize: .fourKiB)
    }
    #expect(throws: ContainerError.self) { try world.dirty(all) }
    try world.log.stop()
    try world.log.start(logging: [all], pageSize: .fourKiB)
  }

  /// It may be running with the old ranges, and a start that does nothing answers 0.
  @Test func `a log whose start failed is not started again before it was stopped`() throws {
    let world = try World()
    let all = Self.range(0x100, 0x80)
    world.kernel.plan(.init(ordinal: 1, errno: ContainerErrno.eio, moment: .after))
    #expect(throws: ContainerError.self) {
      try world.log.start(logging: [Self.range(0x100, 1)], pageSize: .fourKiB)
    }
    let error = #expect(throws: ContainerError.self) {
      try world.log.start(logging: [all], pageSize: .fourKiB)
    }
    #expect(error?.errno == ContainerErrno.eio)
    try world.log.stop()
    try world.log.start(logging: [all], pageSize: .fourKiB)
    #expect(world.simulated.loggedRanges == [all])
  }

  @Test func `a log that is off answers nothing, and stopping it is asked of the kernel`() throws {
    let world = try World()
    world.kernel.plan(nil)
    let error = #expect(throws: ContainerError.self) { try world.dirty(Self.range(0x100, 1)) }
    #expect(error?.errno == ContainerErrno.einval)
    #expect(world.kernel.calls == [])
    try world.log.stop()
    #expect(world.kernel.calls.count == 1)
    try world.log.start(logging: [Self.range(0x100, 1)], pageSize: .fourKiB)
    #expect(throws: ContainerError.self) {
      try world.log.start(logging: [Self.range(0x100, 1)], pageSize: .fourKiB)
    }
  }

  @Test func `a device without the features has no log`() {
    let ram = TestRAM()
    let kernel = FakeKernel(
      container: FakeContainer(SimulatedType1(memory: ram), gpaFirst: ram.gpa.first))
    do {
      let device = VFIODevice(
        name: "nic", descriptor: VFIODescriptor(kernel.add(.device(FakeDevice())), calls: kernel))
      #expect(DeviceDMALog(device: device) == nil)
    }
    #expect(kernel.openDescriptorCount == 0)
  }
}
