import Addressing
import DeviceMigration
import Simulation
import TestSupport
import Testing
import VFIOKernel

/// Devices that migrate by descriptor, over the fake kernel.
@Suite struct MigrationTests {
  enum Kind: String, CaseIterable, Sendable {
    case v2, v2WithoutPrecopy, v2LikeMtty
    case v1ByDescriptor, v1Mapped, v1PartlyMapped
  }

  /// A simulated device, the kernel before it, and what drives it by its descriptor.
  struct World {
    let kernel: FakeKernel
    let device: any MigratableDevice
    let working: any WorkingDevice
    let trueState: @Sendable () -> DeviceState

    init(_ kind: Kind) throws {
      let ram = TestRAM()
      kernel = FakeKernel(
        container: FakeContainer(SimulatedType1(memory: ram), gpaFirst: ram.gpa.first))
      let options = SimulatedDeviceOptions(pageCount: 5)
      let fake: FakeDevice
      switch kind {
      case .v2, .v2WithoutPrecopy, .v2LikeMtty:
        let simulated = SimulatedV2Device(
          name: "nic0",
          features: kind == .v2WithoutPrecopy ? [.stopCopy, .p2p] : [.stopCopy, .p2p, .precopy],
          options: kind == .v2LikeMtty
            ? SimulatedDeviceOptions(
              pageCount: 3, endsInsteadOfTemporaryEnd: true, saysDataSize: false,
              byteCountPerCall: 3000) : options)
        working = simulated
        trueState = { simulated.trueState }
        fake = FakeDevice(v2: simulated)
      case .v1ByDescriptor, .v1Mapped, .v1PartlyMapped:
        let simulated = SimulatedV1Device(name: "nic0", options: options)
        working = simulated
        trueState = { simulated.trueState }
        let mappable: FakeDevice.Mappable =
          kind == .v1ByDescriptor ? .no : kind == .v1Mapped ? .whole : .sparse
        fake = FakeDevice(v1: FakeV1Region(simulated, mappable: mappable))
      }
      let opened = VFIODevice(
        name: "nic0", descriptor: VFIODescriptor(kernel.add(.device(fake)), calls: kernel))
      if let v1 = try VFIODeviceMigrationV1(device: opened) {
        device = MigratableDeviceV1(name: "nic0", migration: v1)
      } else {
        device = MigratableDeviceV2(
          name: "nic0", migration: VFIODeviceMigrationV2(device: opened))
      }
      kernel.plan(nil)
    }

    func save() throws(DeviceError) -> [[UInt8]] {
      var chunks: [[UInt8]] = []
      try device.beginPrecopy()
      for round in 0..<2 as Range<UInt64> {
        try drain(into: &chunks)
        _ = device.pendingEstimate()
        working.work(3, seed: round &+ 77)
      }
      try device.enterP2P()
      try device.beginStopCopy()
      try drain(into: &chunks)
      try device.finishSaving()
      return chunks
    }

    private func drain(into chunks: inout [[UInt8]]) throws(DeviceError) {
      var buffer: [UInt8] = []
      while try device.nextChunk(into: &buffer, byteCountMax: 10_000) == .chunk {
        chunks.append(buffer)
      }
    }

    func load(_ chunks: [[UInt8]]) throws(DeviceError) {
      try device.beginResuming()
      for chunk in chunks {
        try DeviceBytes.reading(chunk) { (bytes) throws(DeviceError) in try device.load(bytes) }
      }
      try device.finishResuming()
      try device.prepareToRun()
      try device.run()
    }
  }

  @Test(arguments: Kind.allCases)
  func `state arrives whole`(kind: Kind) throws {
    let source = try World(kind)
    let destination = try World(kind)
    source.working.work(4, seed: 5)
    let chunks = try source.save()
    #expect(chunks.count > 1)
    try destination.load(chunks)
    #expect(destination.working.stateDigest == source.working.stateDigest)
    #expect(destination.trueState() == .running)
    #expect(source.trueState() == .stop)
    // Only the device is open; the sessions are not.
    #expect(source.kernel.openDescriptorCount == 1)
    #expect(destination.kernel.openDescriptorCount == 1)
    let names = Set(source.kernel.calls.map(\.name))
    #expect(names.contains("pread 0") == (source.device.interface == .v1))
  }

  @Test(arguments: Kind.allCases, FakeKernel.Moment.allCases)
  func `whichever call fails while saving, the device comes back and nothing stays open`(
    kind: Kind, moment: FakeKernel.Moment
  ) throws {
    let sound = try World(kind)
    _ = try sound.save()
    let count = sound.kernel.calls.count
    #expect(count > 10)
    for ordinal in 1...count {
      let world = try World(kind)
      world.kernel.plan(.init(ordinal: ordinal, errno: 5, moment: moment))
      let name = sound.kernel.calls[ordinal - 1].name
      do throws(DeviceError) {
        _ = try world.save()
      } catch {
        #expect(error.object == "nic0" && !error.operation.isEmpty, "\(error)")
      }
      _ = try world.device.recover()
      #expect(world.trueState() == .running, "call \(ordinal), \(name)")
      #expect(world.kernel.openDescriptorCount == 1, "call \(ordinal), \(name)")
    }
  }

  @Test(arguments: Kind.allCases, FakeKernel.Moment.allCases)
  func `whichever call fails while loading, nothing half loaded runs`(
    kind: Kind, moment: FakeKernel.Moment
  ) throws {
    let source = try World(kind)
    source.working.work(4, seed: 5)
    let chunks = try source.save()
    let sound = try World(kind)
    try sound.load(chunks)
    for ordinal in 1...sound.kernel.calls.count {
      let world = try World(kind)
      let before = world.working.stateDigest
      world.kernel.plan(.init(ordinal: ordinal, errno: 5, moment: moment))
      do throws(DeviceError) {
        try world.load(chunks)
        #expect(world.working.stateDigest == source.working.stateDigest, "call \(ordinal)")
      } catch {
        _ = try world.device.recover()
        #expect(world.working.stateDigest == before, "call \(ordinal): \(error)")
      }
      #expect(world.trueState() == .running)
      #expect(world.kernel.openDescriptorCount == 1, "call \(ordinal)")
    }
  }

  @Test func `mapped parts of a region are moved by memory and given back`() throws {
    for (kind, mapped) in [(Kind.v1ByDescriptor, 0), (.v1Mapped, 1)] {
      do {
        let world = try World(kind)
        #expect(world.kernel.mappedCount == mapped)
        _ = try world.save()
        let data = world.kernel.calls.filter {
          $0.name.hasPrefix("pread") && !["0", "8", "16", "24"].contains($0.name.dropFirst(6))
        }
        #expect(data.isEmpty == (mapped > 0), "\(kind)")
      }
    }
    let kernel: FakeKernel
    do {
      let world = try World(.v1PartlyMapped)
      kernel = world.kernel
      #expect(kernel.mappedCount > 3)
    }
    #expect(kernel.mappedCount == 0)
    #expect(kernel.openDescriptorCount == 0)
  }

  @Test func `where mapping fails the descriptor is used`() throws {
    let ram = TestRAM()
    let kernel = FakeKernel(
      container: FakeContainer(SimulatedType1(memory: ram), gpaFirst: ram.gpa.first))
    let simulated = SimulatedV1Device(name: "nic0", options: .init(pageCount: 5))
    let device = VFIODevice(
      name: "nic0",
      descriptor: VFIODescriptor(
        kernel.add(.device(FakeDevice(v1: FakeV1Region(simulated, mappable: .whole)))),
        calls: kernel))
    // Device info, ten regions, then mmap.
    kernel.plan(.init(ordinal: 12, errno: 12, moment: .before))
    let migration = try #require(try VFIODeviceMigrationV1(device: device))
    #expect(kernel.calls.last?.name == "mmap")
    #expect(migration.mappedAreaCount == 0)
    #expect(try migration.readDeviceState() & 7 == 1)
  }

  @Test func `the requests are those of the header`() throws {
    let world = try World(.v2)
    let chunks = try world.save()
    let calls = world.kernel.calls(.deviceFeature).map(\.argument)
    // SET PRE_COPY, the descriptor to come; GET of the state.
    #expect(
      calls.contains(
        Bytes.structure(16 as UInt32, 0x2_0002 as UInt32, 6 as UInt32, -1 as Int32)))
    #expect(
      calls.contains(
        Bytes.structure(16 as UInt32, 0x1_0002 as UInt32, 0 as UInt32, -1 as Int32)))
    // SET MIG_PRECOPY_INFOv2: the envelope and no payload, before PRE_COPY.
    let optIn = Bytes.structure(8 as UInt32, 0x2_000c as UInt32)
    let precopy = Bytes.structure(16 as UInt32, 0x2_0002 as UInt32, 6 as UInt32, -1 as Int32)
    let places = [optIn, precopy].map { calls.firstIndex(of: $0) ?? .max }
    #expect(places[0] < places[1] && places[1] < .max)
    #expect(
      calls.contains(Bytes.structure(16 as UInt32, 0x1_0009 as UInt32, 0 as UInt64)))
    #expect(
      world.kernel.calls(.getPrecopyInformation).map(\.argument).first
        == Bytes.structure(24 as UInt32, 0 as UInt32, 0 as UInt64, 0 as UInt64))
    #expect(!chunks.isEmpty)
  }

  @Test func `a device without either interface blocks by name`() throws {
    let ram = TestRAM()
    let kernel = FakeKernel(
      container: FakeContainer(SimulatedType1(memory: ram), gpaFirst: ram.gpa.first))
    let device = VFIODevice(
      name: "nic0", descriptor: VFIODescriptor(kernel.add(.device(FakeDevice())), calls: kernel))
    #expect(try VFIODeviceMigrationV1(device: device) == nil)
    let v2 = MigratableDeviceV2(name: "nic0", migration: VFIODeviceMigrationV2(device: device))
    #expect(v2.interface == .none(reason: "its driver has no migration interface"))
  }

  @Test func `a device is migrated by v2 where it can be, by v1 where that is all it has`() throws {
    let ram = TestRAM()
    func interface(_ fake: FakeDevice) throws -> MigrationInterface {
      let kernel = FakeKernel(
        container: FakeContainer(SimulatedType1(memory: ram), gpaFirst: ram.gpa.first))
      return try VFIODevice(
        name: "nic0", descriptor: VFIODescriptor(kernel.add(.device(fake)), calls: kernel)
      ).migratable("nic0").interface
    }
    let v1 = SimulatedV1Device(name: "nic0", options: .init(pageCount: 3))
    #expect(try interface(FakeDevice(v1: FakeV1Region(v1, mappable: .whole))) == .v1)
    let features: MigrationFeatures = [.stopCopy, .p2p]
    let v2 = SimulatedV2Device(name: "nic0", features: features, options: .init(pageCount: 3))
    #expect(try interface(FakeDevice(v2: v2)) == .v2(features))
    #expect(
      try interface(FakeDevice()) == .none(reason: "its driver has no migration interface"))
  }
}
