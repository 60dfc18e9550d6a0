import Addressing
import DMAContainer
import IOMMUFD
import Simulation
import TestSupport
import Testing

/// Every call made to fail in turn, with every errno that matters.
@Suite struct IOMMUFDFailureTests {
  /// Sets up two devices, maps, tracks, unmaps, detaches. Returns what it threw.
  private func run(_ kernel: FakeKernel) -> (any Error)? {
    do {
      let container = try World.container(kernel)
      let nic = try container.attachDevice("nic", path: World.nic)
      try container.attachDevice("gpu", path: World.gpu)
      try container.map(World.request(kernel, 0x100, 4))
      try container.map(World.request(kernel, 0x104, 4, ram: 8))
      for log in container.dirtyLogs { try log.start(logging: [], pageSize: .fourKiB) }
      for log in container.dirtyLogs { _ = try World.query(log, 0x100, 8) }
      try container.unmap(World.range(0x100, 4))
      for log in container.dirtyLogs { try log.stop() }
      try container.detachDevice(nic)
      return nil
    } catch {
      return error
    }
  }

  private func kernel() -> FakeKernel {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    kernel.add(World.gpu, .tracking(iommu: 1))
    return kernel
  }

  @Test(arguments: [1, 2, 5, 12, 14, 16, 17, 22, 25, 35, 75, 90, 95] as [Int32])
  func `each failure is named and leaves nothing open`(errno: Int32) {
    let sound = kernel()
    sound.fail(0, errno: 0)
    #expect(run(sound) == nil)
    let names = sound.names
    #expect(names.count > 25)
    #expect(sound.openCount == 0 && sound.objectCount == 0)
    // What may fail without harm: it is done for order, or there is a second way.
    let tolerated: Set<String> = ["IOMMU_DESTROY", "IOMMU_OPTION", "IOMMU_GET_HW_INFO"]
    for (index, name) in names.enumerated() {
      let failing = kernel()
      failing.fail(index + 1, errno: errno)
      let error = run(failing)
      let place = "call \(index + 1), \(name), errno \(errno): \(error as Any)"
      #expect(failing.openCount == 0, "\(place)")
      if !names[..<index].contains("IOMMU_DESTROY"), name != "IOMMU_DESTROY" {
        #expect(failing.objectCount == 0, "\(place)")
      }
      let isLate = index > names.firstIndex(of: "VFIO_DEVICE_DETACH_IOMMUFD_PT")!
      let degrades =
        (name == "IOMMU_HWPT_ALLOC" && errno == 95)
        || (name == "VFIO_DEVICE_ATTACH_IOMMUFD_PT" && errno == 22)
        || (name == "IOMMU_IOAS_MAP_FILE" && errno == 25)
        || (name == "IOMMU_IOAS_IOVA_RANGES" && (errno == 90 || isLate))
      if tolerated.contains(name) || degrades || isLate { continue }
      switch error {
      case let error as IOMMUFDError:
        #expect(error.operation == name && error.errno == errno, "\(place)")
      case let error as ContainerError:
        #expect(error.errno == errno && !error.description.isEmpty, "\(place)")
      default: Issue.record("nothing was thrown: \(place)")
      }
    }
  }

  @Test func `a kernel that maps no files maps by address, and without one says so`() throws {
    let kernel = FakeKernel(lacksMapFile: true)
    let container = try World.container(kernel)
    try container.map(World.request(kernel, 0x100, 4))
    try container.map(World.request(kernel, 0x200, 4))
    // The second map does not try again.
    #expect(kernel.names.filter { $0 == "IOMMU_IOAS_MAP_FILE" }.count == 1)
    let homeless = MapRequest(
      iova: World.range(0x300, 1), gpaFirst: kernel.memory.gpa.first, hvaFirst: nil,
      permissions: .readWrite)
    let error = #expect(throws: ContainerError.self) { try container.map(homeless) }
    #expect(error?.errno == 0)
    #expect(error?.detail.contains("Linux 6.13") == true)
  }

  @Test func `a cut at the end removes nothing, though the kernel would`() throws {
    let kernel = FakeKernel()
    let container = try World.container(kernel)
    try container.map(World.request(kernel, 0x100, 4))
    try container.map(World.request(kernel, 0x104, 4))
    let calls = kernel.names.count
    let error = #expect(throws: ContainerError.self) {
      try container.unmap(World.range(0x100, 6))
    }
    #expect(error?.errno == ContainerErrno.enoent)
    #expect(error?.isPartial == false)
    #expect(kernel.names.count == calls)
    #expect(kernel.container.mappingCount == 2)
  }

  @Test func `an unmap that fails on its way is partial, and can be tried again`() throws {
    let kernel = FakeKernel()
    let container = try World.container(kernel)
    for page in stride(from: 0x100, to: 0x140, by: 16) as StrideTo<UInt64> {
      try container.map(World.request(kernel, page, 8))
    }
    kernel.fail(1, errno: 16)
    let whole = World.range(0x100, 0x40)
    let error = #expect(throws: ContainerError.self) { try container.unmap(whole) }
    #expect(error?.isPartial == true && error?.isGone == false)
    // The kernel has removed the first two.
    try kernel.container.unmap(World.range(0x100, 0x20))
    #expect(try container.unmap(whole) == 16 << 12)
    let again = #expect(throws: ContainerError.self) { try container.unmap(whole) }
    #expect(again?.errno == ContainerErrno.enoent)
    #expect(again?.isPartial == false && again?.isGone == true)
    try container.map(World.request(kernel, 0x100, 8))
    // One mapping goes whole or stays.
    kernel.fail(1, errno: 16)
    let single = #expect(throws: ContainerError.self) {
      try container.unmap(World.range(0x100, 8))
    }
    #expect(single?.isPartial == false && single?.isGone == false)
  }

  @Test func `a log that is not started says so instead of nothing`() throws {
    let kernel = FakeKernel()
    kernel.add(World.nic, .tracking(iommu: 0))
    let container = try World.container(kernel)
    let log = try container.attachDevice("nic", path: World.nic).log
    try container.map(World.request(kernel, 0x100, 4))
    let error = #expect(throws: ContainerError.self) { try World.query(log, 0x100, 4) }
    #expect(error?.detail.contains("not started") == true)
    try log.start(logging: [], pageSize: .fourKiB)
    #expect(kernel.write(World.nic, at: IOVA(0x10_2000)) != nil)
    // A second start would clear what is unread.
    try log.start(logging: [], pageSize: .fourKiB)
    #expect(try World.query(log, 0x100, 4, clear: false) == [0x102])
    #expect(try World.query(log, 0x100, 4) == [0x102])
    // A stop that fails leaves nobody knowing: the kernel might say that nothing was written.
    kernel.fail(1, errno: 5)
    #expect(throws: ContainerError.self) { try log.stop() }
    #expect(throws: ContainerError.self) { try World.query(log, 0x100, 4) }
    // A start is not taken for done.
    let asked = kernel.names.count
    try log.start(logging: [], pageSize: .fourKiB)
    #expect(kernel.names.count == asked + 1)
    #expect(kernel.write(World.nic, at: IOVA(0x10_1000)) != nil)
    #expect(try World.query(log, 0x100, 4) == [0x101])
    kernel.fail(1, errno: 5)
    #expect(throws: ContainerError.self) { try log.stop() }
    try log.stop()
    try log.stop()
    #expect(throws: ContainerError.self) { try World.query(log, 0x100, 4) }
  }

  @Test func `a range of the whole space has no length to ask for`() throws {
    let kernel = FakeKernel()
    let container = try World.container(kernel)
    let error = #expect(throws: ContainerError.self) {
      try container.map(
        MapRequest(
          iova: .wholeSpace, gpaFirst: GPA(0), hvaFirst: nil, permissions: .readWrite))
    }
    #expect(error?.errno == ContainerErrno.eoverflow)
    #expect(!kernel.names.contains("IOMMU_IOAS_MAP"))
  }
}
