import Addressing
import DMAContainer
import Simulation
import Testing
import VFIOKernel

@Suite struct Type1GroupTests {
  static func kernel() -> FakeKernel {
    let ram = TestRAM()
    let type1 = SimulatedType1(memory: ram)
    _ = type1.attachDevice("nic")
    var options = FakeContainer.Options()
    options.needsIOMMU = true
    let log = SimulatedDeviceLog(name: "log")
    return FakeKernel(
      container: FakeContainer(type1, gpaFirst: ram.gpa.first, options: options),
      groups: [
        "/dev/vfio/1": .init(devices: ["0000:00:04.0": FakeDevice(log: log)]),
        "/dev/vfio/2": .init(devices: ["0000:00:05.0": FakeDevice()]),
        "/dev/vfio/3": .init(isViable: false),
      ])
  }

  /// Opens, attaches a second group, opens a device of each, detaches, maps and lets all go.
  private static func useAll(_ kernel: FakeKernel) throws {
    let container = try Type1Container(name: "vm", groupPath: "/dev/vfio/1", calls: kernel)
    try container.attach(groupPath: "/dev/vfio/2")
    _ = try container.openDevice("0000:00:05.0", groupPath: "/dev/vfio/2")
    let device = try container.openDevice("0000:00:04.0", groupPath: "/dev/vfio/1")
    _ = DeviceDMALog(device: device)
    try container.detach(groupPath: "/dev/vfio/2", devices: ["0000:00:05.0"])
  }

  @Test func `a container is opened in the order the kernel asks for`() throws {
    let kernel = Self.kernel()
    do {
      let container = try Type1Container(name: "vm", groupPath: "/dev/vfio/1", calls: kernel)
      #expect(
        kernel.calls.map(\.name) == [
          "open", "VFIO_GET_API_VERSION", "VFIO_CHECK_EXTENSION", "open", "VFIO_GROUP_GET_STATUS",
          "VFIO_GROUP_SET_CONTAINER", "VFIO_SET_IOMMU", "VFIO_IOMMU_GET_INFO",
          "VFIO_CHECK_EXTENSION",
        ])
      #expect(container.dirtyLogs.count == 1)
      #expect(kernel.openDescriptorCount == 2)
    }
    #expect(kernel.openDescriptorCount == 0)
  }

  @Test func `whichever call fails, it is named and nothing stays open`() throws {
    let sound = Self.kernel()
    try Self.useAll(sound)
    #expect(sound.openDescriptorCount == 0)
    let count = sound.calls.count
    #expect(count > 18)
    for ordinal in 1...count {
      for moment in FakeKernel.Moment.allCases {
        let kernel = Self.kernel()
        kernel.plan(.init(ordinal: ordinal, errno: 5, moment: moment))
        let name = sound.calls[ordinal - 1].name
        do {
          try Self.useAll(kernel)
          // What may be missing without harm: an extension, a log.
          #expect(["VFIO_CHECK_EXTENSION", "VFIO_DEVICE_FEATURE"].contains(name), "\(ordinal)")
        } catch let error as VFIOError {
          #expect(error.operation == name && error.errno == 5, "\(ordinal): \(error)")
        }
        #expect(kernel.openDescriptorCount == 0, "call \(ordinal), \(name), leaves one open")
      }
    }
  }

  @Test func `what can not be opened says why`() throws {
    let kernel = Self.kernel()
    func failure(_ path: String) -> VFIOError? {
      do throws(VFIOError) {
        _ = try Type1Container(name: "vm", groupPath: path, calls: kernel)
        return nil
      } catch {
        return error
      }
    }
    #expect(failure("/dev/vfio/9")?.description.contains("open failed with ENOENT") == true)
    #expect(failure("/dev/vfio/3")?.detail.contains("not viable") == true)
    let container = try Type1Container(name: "vm", groupPath: "/dev/vfio/1", calls: kernel)
    #expect(failure("/dev/vfio/1")?.detail.contains("open elsewhere") == true)
    let missing = #expect(throws: VFIOError.self) {
      try container.openDevice("0000:00:09.0", groupPath: "/dev/vfio/1")
    }
    #expect(missing?.detail == "/dev/vfio/1 has no such device")
    #expect(throws: VFIOError.self) {
      try container.openDevice("0000:00:04.0", groupPath: "/dev/vfio/2")
    }
    #expect(throws: VFIOError.self) {
      try container.detach(groupPath: "/dev/vfio/2", devices: [])
    }
  }

  @Test func `a descriptor that is only lent is not closed`() throws {
    let kernel = Self.kernel()
    let lent = kernel.open("/dev/vfio/vfio")
    _ = kernel.control(lent, .setIOMMU, value: 3)
    do {
      let container = try Type1Container(
        name: "vm", adopting: VFIODescriptor(lent, ownership: .borrowed, calls: kernel))
      #expect(container.capabilities.hasAtomicUnmap)
    }
    #expect(kernel.openDescriptorCount == 1)
    kernel.close(lent)
  }

  /// Pinned only while neither the caller nor the kernel contradicts.
  @Test func `the scope is pinned only while nobody contradicts`() throws {
    let kernel = Self.kernel()
    let container = try Type1Container(name: "vm", groupPath: "/dev/vfio/1", calls: kernel)
    func scope() -> DirtyScope? { container.dirtyLogs.first?.capabilities.scope }
    #expect(scope() == .pinned)
    try container.attachmentChanged(to: [Type1Device(name: "a", isMediated: true)])
    #expect(scope() == .pinned)
    try container.attachmentChanged(to: [
      Type1Device(name: "a", isMediated: true), Type1Device(name: "b", isMediated: false),
    ])
    #expect(scope() == .everythingMapped)
    kernel.container.options.validRanges = [0...0xffff_ffff]
    try container.attachmentChanged(to: [Type1Device(name: "a", isMediated: true)])
    #expect(scope() == .everythingMapped)
  }
}
