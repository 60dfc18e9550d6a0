import Addressing
import DMAContainer
import Simulation
import TestSupport
import VFIOKernel

/// A type1 container over the fake kernel with one device.
struct Type1World {
  enum Kind: String, CaseIterable, Sendable {
    /// A mediated device; the kernel names no valid ranges.
    case pinned
    case everythingMapped
    /// Behind iommufd's imitation, or before Linux 5.8.
    case noTracker
    case deviceLog
    /// One device with a log of its own, one without.
    case mixed
  }

  static let groupPath = "/dev/vfio/12"
  static let deviceName = "0000:00:04.0"

  let ram: TestRAM
  let kernel: FakeKernel
  let fake: FakeContainer
  let port: SimulatedDevicePort
  let container: Type1Container

  /// By group, as a process that has the device to itself does.
  init(
    _ kind: Kind, ram: TestRAM = TestRAM(), dmaEntryLimit: Int = 65_535,
    options base: FakeContainer.Options = .init(), fault: FakeKernel.Fault? = nil
  ) throws {
    self.ram = ram
    let type1 = SimulatedType1(memory: ram, dmaEntryLimit: dmaEntryLimit)
    var options = base
    options.needsIOMMU = true
    let log = kind == .deviceLog || kind == .mixed ? SimulatedDeviceLog(name: "log") : nil
    switch kind {
    case .pinned: port = type1.attachMediatedDevice("mdev")
    default:
      port = type1.attachDevice("nic", log: log)
      if kind == .mixed { _ = type1.attachDevice("disk") }
      options.validRanges = [0...0xfedf_ffff, 0xfef0_0000...0xffff_ffff_ffff]
    }
    if kind == .noTracker { options.hasMigration = false }
    fake = FakeContainer(type1, gpaFirst: ram.gpa.first, options: options)
    kernel = FakeKernel(
      container: fake,
      groups: [Self.groupPath: .init(devices: [Self.deviceName: FakeDevice(log: log)])])
    kernel.plan(fault)
    container = try Type1Container(
      name: "type1", groupPath: Self.groupPath,
      devices: [Type1Device(name: "nic", isMediated: kind == .pinned)], calls: kernel)
    guard log != nil else { return }
    let device = try container.openDevice(Self.deviceName, groupPath: Self.groupPath)
    var devices = [Type1Device(name: "nic", log: DeviceDMALog(device: device))]
    if kind == .mixed { devices.append(Type1Device(name: "disk")) }
    try container.attachmentChanged(to: devices)
  }

  /// With an HVA for every mapping, as the suites do not give one.
  var hostMapped: HostMappedContainer {
    HostMappedContainer(container, gpaFirst: ram.gpa.first, hvaFirst: fake.hvaFirst)
  }

  func fixture() -> ContainerFixture {
    let port = port
    return ContainerFixture(
      container: hostMapped, gpaFirst: ram.gpa.first, ramPageCount: 256,
      write: { port.touch($0) })
  }

  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }

  func map(_ page: UInt64, _ pages: UInt64, ram ramPage: UInt64 = 0) throws(ContainerError) {
    try hostMapped.map(
      MapRequest(
        iova: Self.range(page, pages), gpaFirst: GPA(ram.gpa.first.rawValue + (ramPage << 12)),
        hvaFirst: nil, permissions: .readWrite))
  }
}
