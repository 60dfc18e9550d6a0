import Addressing
import DMAContainer
import IOMMUFD
import Locking
import Simulation
import TestSupport
import Testing

/// What is left in the kernel and in the container's own table after a call that failed on its way.
@Suite struct IOMMUFDHalfwayTests {
  @Test func `a map the table refuses is taken out of the kernel again`() throws {
    let kernel = FakeKernel()
    let container = try World.container(kernel)
    try container.map(World.request(kernel, 0x100, 4))
    // Somebody else with this IOAS has unmapped it, which the table does not know.
    try kernel.container.unmap(World.range(0x100, 4))
    let error = #expect(throws: ContainerError.self) {
      try container.map(World.request(kernel, 0x100, 4))
    }
    #expect(error?.errno == ContainerErrno.enospc)
    #expect(kernel.container.mappingCount == 0)
  }

  @Test func `after half an unmap the holes can be mapped again`() throws {
    let kernel = FakeKernel()
    let container = try World.container(kernel)
    for page in stride(from: 0x100, to: 0x140, by: 16) as StrideTo<UInt64> {
      try container.map(World.request(kernel, page, 8))
    }
    kernel.fail(1, errno: 16)
    #expect(throws: ContainerError.self) { try container.unmap(World.range(0x100, 0x40)) }
    // The kernel has removed the first two.
    try kernel.container.unmap(World.range(0x100, 0x20))
    // A part of one, and what reaches over the end of another.
    try container.map(World.request(kernel, 0x102, 2))
    try container.map(World.request(kernel, 0x116, 4))
    #expect(kernel.container.mappingCount == 4)
    #expect(try container.unmap(World.range(0x100, 0x40)) == (2 + 4 + 16) << 12)
    #expect(kernel.container.mappingCount == 0)
  }

  @Test func `a log whose start failed may run, and is stopped`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let container = try World.container(kernel)
    let log = try container.attachDevice("nic", path: World.nic).log
    kernel.fail(1, errno: 5)
    #expect(throws: ContainerError.self) { try log.start(logging: [], pageSize: .fourKiB) }
    kernel.fail(0, errno: 0)
    try log.stop()
    #expect(kernel.names == ["IOMMU_HWPT_SET_DIRTY_TRACKING"])
    // Now it is known to be off.
    try log.stop()
    #expect(kernel.names.count == 1)
  }

  @Test func `a device whose ranges cannot be read is let go of`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let container = try World.container(kernel)
    let objects = kernel.objectCount
    // The caller keeps the device open.
    let device = try IOMMUFDDescriptor.open(World.nic, calls: kernel)
    kernel.fail(1, errno: 12, only: "IOMMU_IOAS_IOVA_RANGES")
    #expect(throws: IOMMUFDError.self) { try container.attachDevice("nic", device) }
    #expect(kernel.state.withLock { $0.ports.isEmpty })
    #expect(container.devices.isEmpty && container.dirtyLogs.isEmpty)
    // The device itself is bound, and its table is gone.
    #expect(kernel.objectCount == objects + 1)
  }

  @Test func `a table whose device was refused is destroyed`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let container = try World.container(kernel)
    let objects = kernel.objectCount
    kernel.fail(1, errno: 12, only: "VFIO_DEVICE_ATTACH_IOMMUFD_PT")
    #expect(throws: IOMMUFDError.self) { try container.attachDevice("nic", path: World.nic) }
    #expect(kernel.objectCount == objects)
    try container.attachDevice("nic", path: World.nic)
    #expect(container.dirtyLogs.count == 1)
  }
}
