import Addressing
import DMAContainer
import IOMMUFD
import Simulation
import TestSupport
import Testing

/// Which log a device gets, and what is said when it is not the best.
@Suite struct IOMMUFDDeviceTests {
  @Test func `devices of one IOMMU share a table, of another have their own`() throws {
    let kernel = FakeKernel()
    kernel.add("/a", .tracking(iommu: 0))
    kernel.add("/b", .tracking(iommu: 0))
    kernel.add("/c", .tracking(iommu: 1))
    let container = try World.container(kernel)
    let a = try container.attachDevice("a", path: "/a")
    let b = try container.attachDevice("b", path: "/b")
    let c = try container.attachDevice("c", path: "/c")
    #expect(a.log === b.log)
    #expect(a.log !== c.log)
    #expect(container.dirtyLogs.map(\.name) == ["a HWPT", "c HWPT"])
    #expect(container.dirtyLogs.allSatisfy { $0.capabilities.scope == .iommuHardware })
    #expect(container.notes == [])
    try container.map(World.request(kernel, 0x100, 16))
    for log in container.dirtyLogs { try log.start(logging: [], pageSize: .fourKiB) }
    #expect(kernel.write("/b", at: IOVA(0x10_1000)) != nil)
    #expect(kernel.write("/c", at: IOVA(0x10_3000)) != nil)
    #expect(try World.query(a.log, 0x100, 16) == [0x101])
    #expect(try World.query(c.log, 0x100, 16) == [0x103])
    try container.detachDevice(a)
    #expect(container.dirtyLogs.map(\.name) == ["a HWPT", "c HWPT"])
    try container.detachDevice(b)
    #expect(container.dirtyLogs.map(\.name) == ["c HWPT"])
    #expect(kernel.write("/a", at: IOVA(0x10_1000)) == nil)
  }

  @Test func `what can not be tracked is everything mapped, and says why`() throws {
    let kernel = FakeKernel()
    kernel.add("/old", .untracking)
    kernel.add("/mdev", .emulated)
    kernel.add("/new", .tracking(iommu: 0))
    let container = try World.container(kernel)
    for name in ["old", "mdev", "new"] { try container.attachDevice(name, path: "/\(name)") }
    #expect(
      container.dirtyLogs.map(\.capabilities.scope)
        == [.everythingMapped, .everythingMapped, .iommuHardware])
    #expect(container.notes.count == 2)
    #expect(container.notes[0].contains("old: everything mapped (its IOMMU has no dirty bits)"))
    #expect(container.notes[1].contains("an emulated device, whose writes no IOMMU sees"))
  }

  @Test func `an IOMMU that promises dirty bits and refuses degrades too`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let container = try World.container(kernel)
    kernel.fail(1, errno: 95, only: "IOMMU_HWPT_ALLOC")
    let device = try container.attachDevice("nic", path: World.nic)
    #expect(device.log.capabilities.scope == .everythingMapped)
    // Without memory for a table it is an error: a better tracker must not be lost in silence.
    kernel.add(World.gpu, .tracking(iommu: 1))
    kernel.fail(1, errno: 12, only: "IOMMU_HWPT_ALLOC")
    let error = #expect(throws: IOMMUFDError.self) {
      try container.attachDevice("gpu", path: World.gpu)
    }
    #expect(error?.description == "gpu HWPT: IOMMU_HWPT_ALLOC failed with ENOMEM")
    #expect(container.devices.count == 1)
  }

  @Test func `ids that a VMM hands over, and a log of the device's own`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let vmm = try World.container(kernel)
    let bound = try vmm.attachDevice("nic", path: World.nic)
    let shared = IOMMUFDDescriptor(vmm.descriptor.rawValue, ownership: .borrowed, calls: kernel)
    do {
      let container = try IOMMUFDContainer(
        descriptor: shared, ioas: vmm.ioas,
        options: IOMMUFDOptions(memoryFiles: [World.file(kernel)]))
      let hwpt = try container.allocateHWPT("mine", device: bound.id)
      try container.addDevice("nic", id: bound.id, hwpt: hwpt)
      #expect(container.dirtyLogs.map(\.name) == ["mine"])
      let ownLog = SimulatedDeviceLog(name: "nic log")
      try container.addDevice("gpu", id: 99, hwpt: nil, log: ownLog)
      try container.addDevice("disk", id: 98, hwpt: nil)
      #expect(container.dirtyLogs.map(\.capabilities.scope).last == .everythingMapped)
      #expect(container.dirtyLogs.contains { $0 === ownLog })
      try container.map(World.request(kernel, 0x100, 1))
    }
    // What was made here is gone; the VMM's iommufd, IOAS and mapping are not.
    #expect(kernel.openCount == 2)
    #expect(kernel.container.mappingCount == 1)
    #expect(try vmm.unmap(.wholeSpace) == 4096)
  }

  @Test func `the ranges a device leaves become the container's, however many there are`() throws {
    let many = (0..<100 as Range<UInt64>).map { World.range($0 * 32, 16) }
    let kernel = FakeKernel(validRanges: many, alignment: 2048)
    kernel.add(World.nic, .tracking(iommu: 0))
    let container = try World.container(kernel)
    try container.attachDevice("nic", path: World.nic)
    #expect(container.capabilities.validRanges == many)
    #expect(container.capabilities.pageSizes.smallest == .fourKiB)
    try container.map(World.request(kernel, 32, 16))
    let error = #expect(throws: ContainerError.self) {
      try container.map(World.request(kernel, 48, 2))
    }
    #expect(error?.errno == ContainerErrno.einval)
    let free = FakeKernel(alignment: 1 << 16)
    let whole = try World.container(free)
    #expect(whole.capabilities.validRanges == [])
    #expect(whole.capabilities.pageSizes.smallest == PageSize(bytes: 1 << 16))
  }

  @Test func `huge pages are turned off before the first map, unless wanted`() throws {
    let kernel = FakeKernel()
    _ = try World.container(kernel)
    #expect(kernel.names.prefix(3) == ["open", "IOMMU_IOAS_ALLOC", "IOMMU_OPTION"])
    let other = FakeKernel()
    _ = try World.container(other, usesHugePages: true)
    #expect(!other.names.contains("IOMMU_OPTION"))
    let refusing = FakeKernel()
    refusing.fail(1, errno: 22, only: "IOMMU_OPTION")
    let container = try World.container(refusing)
    #expect(container.notes.first?.contains("may be of 2 MiB or 1 GiB") == true)
  }
}
