import Addressing
import DeviceMigration
import Simulation
import Testing
import VFIOUser

@testable import TrackerService
@testable import VhostUser

/// The VMM migrates: what a device wrote until the VM has stopped is in the VMM's log.
@Suite struct MigrationTests {
  typealias World = ServiceWorld

  static let ways: [DeviceWay] = [.log, .messages, .everything]

  private func world(
    _ way: DeviceWay, _ omissions: Set<ServiceOmission> = [], strict: Bool = false,
    states: SimulatedV2Device? = nil
  ) throws -> World {
    var options = World.Options()
    options.way = way
    options.device.hasLog = way == .log
    options.device.migration = states
    options.omissions = omissions
    options.isStrict = strict
    return try World(options)
  }

  /// Pages 2 and on of the file are mapped at IOVA page 0x100, and the VMM logs.
  private func migrating(
    _ way: DeviceWay, _ omissions: Set<ServiceOmission> = [], states: SimulatedV2Device? = nil,
    pageCount: UInt64 = 2
  ) throws -> World {
    let world = try world(way, omissions, states: states)
    world.start()
    try world.map(0x100, pageCount, toFile: 2)
    world.frontEnd.startLogging(world.log)
    return world
  }

  @Test(arguments: ways)
  func `what a device wrote is in the log when the stop is answered`(way: DeviceWay) throws {
    let world = try world(way)
    defer { world.close() }
    world.start()
    try world.map(0x100, 4, toFile: 2)
    try world.map(0x200, 4, toFile: 70)
    world.frontEnd.startLogging(world.log)
    #expect(world.write(0x101))
    #expect(world.write(0x203, 9))
    #expect(world.frontEnd.stop() == 17)
    let dirty = world.takeDirty()
    #expect(dirty.isSuperset(of: [3, 73]))
    if way != .everything { #expect(dirty == [3, 73]) }
    #expect(world.contents(ofFile: 73) == 9)
  }

  @Test(arguments: ways)
  func `a mapping that goes leaves its dirt on the page it had`(way: DeviceWay) throws {
    let world = try migrating(way)
    defer { world.close() }
    #expect(world.write(0x101))
    try world.unmap(0x100, 2)
    try world.map(0x100, 2, toFile: 40)
    #expect(world.frontEnd.stop() == 17)
    let dirty = world.takeDirty()
    #expect(dirty.contains(3))
    if way != .everything { #expect(dirty == [3]) }
  }

  /// The controls: what is left out must be missed.
  @Test(arguments: [
    (DeviceWay.log, ServiceOmission.finalSync), (.log, .unmap), (.messages, .lateLookup),
  ])
  func `what is left out is missed`(way: DeviceWay, omission: ServiceOmission) throws {
    let world = try migrating(way, [omission])
    defer { world.close() }
    #expect(world.write(0x101))
    if omission != .finalSync {
      try world.unmap(0x100, 2)
      try world.map(0x100, 2, toFile: 40)
    }
    #expect(world.frontEnd.stop() == 17)
    #expect(!world.takeDirty().contains(3))
  }

  @Test(arguments: ways)
  func `a device is quiet from the stop on until the VM runs`(way: DeviceWay) throws {
    let world = try migrating(way)
    defer { world.close() }
    #expect(world.frontEnd.stop() == 17)
    _ = world.takeDirty()
    let device = world.device
    let writer = try SimulatedThread(name: "DMA") { _ = device.write([5], at: IOVA(0x10_0000)) }
    if way != .messages {
      // Its mappings are gone: it may not write.
      writer.join()
    }
    #expect(world.contents(ofFile: 2) == 0)
    // What is mapped and unmapped meanwhile.
    try world.map(0x300, 1, toFile: 9)
    try world.map(0x301, 1, toFile: 10)
    try world.unmap(0x301)
    // The migration is cancelled, and the VM goes on.
    world.frontEnd.endLogging()
    world.start()
    if way == .messages { writer.join() }
    #expect(world.write(0x100, 6))
    #expect(world.contents(ofFile: 2) == 6)
    #expect(world.write(0x300, 7))
    #expect(world.contents(ofFile: 9) == 7)
    #expect(!world.write(0x301, 8))
  }

  @Test(arguments: ways)
  func `a guest that never starts the companion again gets its device back by an access`(
    way: DeviceWay
  ) throws {
    let world = try world(way)
    defer { world.close() }
    world.start()
    try world.map(0x100, 2, toFile: 2)
    #expect(world.frontEnd.stop() == 17)
    #expect(try world.vmm.readRegion(RegionAccess(region: 0, offset: 0, byteCount: 4)).count == 4)
    #expect(world.write(0x100, 6))
  }

  @Test func `a device with states is stopped by them, and runs on with them`() throws {
    let states = SimulatedV2Device(name: "nic", features: [.stopCopy])
    let world = try migrating(.log, states: states)
    defer { world.close() }
    #expect(world.write(0x101))
    #expect(world.frontEnd.stop() == 17)
    #expect(states.trueState == .stop)
    #expect(world.takeDirty() == [3])
    try world.map(0x300, 1, toFile: 9)
    #expect(world.device.regionCount == 1)
    world.start()
    #expect(states.trueState == .running)
    #expect(world.device.regionCount == 2)
  }

  @Test func `a second migration knows nothing of the first`() throws {
    let world = try migrating(.log, pageCount: 4)
    defer { world.close() }
    #expect(world.write(0x100))
    world.frontEnd.endLogging()
    #expect(world.write(0x101))
    _ = world.takeDirty()
    world.frontEnd.startLogging(world.log)
    #expect(world.write(0x102))
    #expect(world.frontEnd.stop() == 17)
    #expect(world.takeDirty() == [4])
  }

  @Test func `a log that is replaced gets what was written for the old one`() throws {
    let world = try migrating(.log, pageCount: 4)
    defer { world.close() }
    #expect(world.write(0x100))
    world.frontEnd.setLogBase(world.log)
    #expect(world.takeDirty() == [2])
  }

  @Test(arguments: [false, true])
  func `memory that is no RAM makes all of RAM dirty, or the stop refused`(
    strict: Bool
  ) throws {
    let world = try world(.log, strict: strict)
    defer { world.close() }
    world.start()
    let other = VFIOUser.OwnedDescriptor(owning: Descriptors.memory("other", byteCount: 0x4000))
    _ = try world.vmm.request(
      .mapDMA(DMAMapMessage(iova: World.range(0x500, 4), permissions: .readWrite)),
      descriptors: [other])
    world.frontEnd.startLogging(world.log)
    #expect(world.write(0x501))
    #expect(world.frontEnd.stop() == (strict ? nil : 17))
    if !strict { #expect(world.takeDirty() == Set(0..<128)) }
    #expect(world.said.has("lies in no RAM"))
  }

  /// Before the guest has started the companion the VMM logs nothing for it: DMA by message goes on
  /// to the VMM, which carries it out.
  @Test func `DMA by message is the VMM's until the guest has started the companion`() throws {
    let world = try world(.messages)
    defer { world.close() }
    let vmm = world.vmmMemory
    try world.map(0x100, 2, toFile: 2)
    #expect(world.write(0x101, 7))
    #expect(vmm.written == [IOVA(0x10_1000)])
    #expect(world.contents(ofFile: 3) == 0)
    world.start()
    #expect(world.write(0x101, 8))
    #expect(vmm.written.count == 1)
    #expect(world.contents(ofFile: 3) == 8)
  }

  /// The VMM waits for the unmap, the server for its DMA, and that goes on to the VMM.
  @Test func `a server may do DMA before it answers, while that is still the VMM's`() throws {
    let world = try world(.messages)
    defer { world.close() }
    try world.map(0x100, 2, toFile: 2)
    let device = world.device
    device.beforeUnmap { region in #expect(device.write([7], at: region.iova.first) != nil) }
    try world.unmap(0x100, 2)
    device.beforeUnmap(nil)
    #expect(world.vmmMemory.written == [IOVA(0x10_0000)])
  }

  @Test func `a device whose server died lets the VM stop, and all it had counts as written`()
    throws
  {
    let world = try migrating(.log)
    defer { world.close() }
    #expect(world.write(0x101))
    world.killServer()
    #expect(world.frontEnd.stop() == 17)
    #expect(world.takeDirty().contains(3))
  }
}
