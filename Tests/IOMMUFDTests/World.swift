import Addressing
import DMAContainer
import IOMMUFD
import PageBitmap
import TestSupport

/// The real container on the fake kernel.
enum World {
  static let nic = "/dev/vfio/devices/vfio0"
  static let gpu = "/dev/vfio/devices/vfio1"

  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }

  static func file(_ kernel: FakeKernel) -> GuestMemoryFile {
    GuestMemoryFile(gpa: kernel.memory.gpa, descriptor: FakeKernel.memoryFile)
  }

  static func container(
    _ kernel: FakeKernel, usesHugePages: Bool = false, byFile: Bool = true
  ) throws(IOMMUFDError) -> IOMMUFDContainer {
    try IOMMUFDContainer(
      options: IOMMUFDOptions(
        usesHugePages: usesHugePages, memoryFiles: byFile ? [file(kernel)] : []),
      calls: kernel)
  }

  static func request(
    _ kernel: FakeKernel, _ page: UInt64, _ pages: UInt64, ram: UInt64 = 0,
    permissions: Permissions = .readWrite
  ) -> MapRequest {
    MapRequest(
      iova: range(page, pages), gpaFirst: GPA(kernel.memory.gpa.first.rawValue + ram << 12),
      hvaFirst: HVA(FakeKernel.hvaFirst.rawValue + ram << 12), permissions: permissions)
  }

  /// Dirty page numbers.
  static func query(
    _ log: any DirtyLog, _ page: UInt64, _ pages: UInt64, clear: Bool = true
  ) throws(ContainerError) -> [UInt64] {
    var bitmap = ContainerDriver.bitmap(range(page, pages))
    try log.query(&bitmap, clear: clear)
    var found: [UInt64] = []
    bitmap.forEachDirtyRun { found += Array($0.first.rawValue >> 12...$0.last.rawValue >> 12) }
    return found
  }
}

/// Gives map requests the address at which this process has the memory, for suites that know none.
final class Addressed: DMAContainer {
  let container: IOMMUFDContainer
  let gpaFirst: GPA

  init(_ container: IOMMUFDContainer, gpaFirst: GPA) {
    self.container = container
    self.gpaFirst = gpaFirst
  }

  var name: String { container.name }
  var capabilities: ContainerCapabilities { container.capabilities }
  var dirtyLogs: [any DirtyLog] { container.dirtyLogs }

  func map(_ request: MapRequest) throws(ContainerError) {
    let offset = request.gpaFirst.rawValue - gpaFirst.rawValue
    try container.map(
      MapRequest(
        iova: request.iova, gpaFirst: request.gpaFirst,
        hvaFirst: HVA(FakeKernel.hvaFirst.rawValue + offset), permissions: request.permissions))
  }

  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 { try container.unmap(range) }
  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    try container.unmap(reportingInto: &dirty)
  }
}
