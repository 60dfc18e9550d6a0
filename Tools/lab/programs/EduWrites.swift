import Addressing
import DMAContainer
import GuestDirtyLog
import PageBitmap
import Simulation
import VFIOKernel

/// The device writes through IOVAs; the log must hold every page it wrote, also one it wrote just
/// before the unmap.
enum EduWrites {
  private static let ramByteCount: UInt64 = 16 << 20

  static func run(_ address: String, into result: inout LabResult) throws {
    let ram = try GuestRAM(layout: GuestLayout(byteCount: ramByteCount))
    let raw = try RawContainer(devices: [EduDevice.path(address)])
    let device = try EduDevice(try raw.openDevice(address))
    let container = try Type1Test.adopt(raw, [Type1Device(name: address, isMediated: false)])
    let log = container.dirtyLogs[0]
    result.expect(
      "edu makes the scope everything mapped", log.capabilities.scope,
      is: .everythingMapped)

    // The pattern's IOVA is not its GPA, so that code which takes one for the other shows.
    let pattern = (0..<2048).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 3) }
    ram.store(pattern, at: 0x5000)
    try map(container, ram, iova: 0x20_0000, gpa: 0x5000, .read)
    try map(container, ram, iova: 0x30_0000, gpa: 0x40_0000, .readWrite, pageCount: 16)
    try log.start(logging: [], pageSize: .fourKiB)
    try device.load(from: 0x20_0000, byteCount: 2048)

    for (offset, name) in [(0x3800, "in the second half of a page"), (0x7c00, "across two pages")] {
      let offset = UInt64(offset)
      try device.store(to: 0x30_0000 + offset, byteCount: 2048)
      result.expect("edu wrote \(name)", bytes(ram, 0x40_0000 + offset), is: pattern)
      let dirty = try query(container, first: 0x30_0000, pageCount: 16)
      let pages = Set([offset / 4096, (offset + 2047) / 4096])
      result.check("the log holds what it wrote \(name)", pages.isSubset(of: dirty), "\(dirty)")
    }

    // What is mapped for reading only, or not at all, is not written: the IOMMU stops the device.
    let before = bytes(ram, 0x5000)
    try device.store(to: 0x20_0000, byteCount: 1024)
    result.expect("a read-only mapping stays", bytes(ram, 0x5000), is: before)
    try device.store(to: 0x31_0000, byteCount: 2048)
    result.check(
      "nothing past the mapping was written",
      bytes(ram, 0x41_0000).allSatisfy { $0 == 0 })

    try moveMemory(container, ram, device, into: &result)

    try device.store(to: 0x30_0000, byteCount: 2048)
    var bitmap = try QueryBitmap(byteCountMax: 4096)
    try bitmap.reset(window: range(0x30_0000, 16), pageSize: .fourKiB)
    let unmapped = try container.unmap(reportingInto: &bitmap)
    result.expect("the unmap removes the mapping", unmapped, is: 16 * 4096)
    result.check("and reports what was written before it", bitmap.contains(IOVA(0x30_0000)))
    try device.store(to: 0x30_1000, byteCount: 2048)
    result.check(
      "after the unmap the device reaches the page no more",
      bytes(ram, 0x40_1000).allSatisfy { $0 == 0 })
    result.check(
      "the kernel's own record of warnings stays empty",
      container.takeWarnings().isEmpty)
  }

  /// The VMM says that its addresses change; the device goes on all the while.
  private static func moveMemory(
    _ container: Type1Container, _ ram: GuestRAM, _ device: EduDevice,
    into result: inout LabResult
  ) throws {
    result.check("addresses can be changed under a plain device", container.canUpdateAddresses)
    let mapping = range(0x30_0000, 16)
    let hva = ram.ramRegions[0].hvaFirst!.advanced(byBytes: 0x40_0000)!
    func errno(_ body: () throws -> Void) throws -> Int32 {
      do { try body() } catch let error as ContainerError { return error.errno }
      return 0
    }
    result.expect(
      "an address that is valid is not updated",
      try errno { try container.updateAddress(of: mapping, to: hva) }, is: ContainerErrno.einval)
    result.expect(
      "a part of a mapping is not invalidated",
      try errno { try container.invalidateAddresses(in: range(0x30_0000, 4)) },
      is: ContainerErrno.einval)
    result.expect(
      "the mapping's address is invalid", try container.invalidateAddresses(in: mapping),
      is: 16 * 4096)
    result.expect(
      "all addresses are not, since one is already",
      try errno { try container.invalidateAddresses(in: .wholeSpace) }, is: ContainerErrno.einval)
    ram.store([UInt8](repeating: 0, count: 2048), at: 0x40_2000)
    try device.store(to: 0x30_2000, byteCount: 2048)
    result.check(
      "the device still writes", bytes(ram, 0x40_2000).contains { $0 != 0 })
    result.check(
      "and the log still holds what it wrote",
      try query(container, first: 0x30_0000, pageCount: 16).contains(2))
    result.expect(
      "half a mapping is not updated",
      try errno { try container.updateAddress(of: range(0x30_0000, 8), to: hva) },
      is: ContainerErrno.einval)
    result.expect(
      "where nothing is mapped neither",
      try errno { try container.updateAddress(of: range(0x70_0000, 8), to: hva) },
      is: ContainerErrno.enoent)
    try container.updateAddress(of: mapping, to: hva)
    result.expect(
      "all addresses are invalid at once", try container.invalidateAddresses(in: .wholeSpace),
      is: 17 * 4096)
    try container.updateAddress(of: mapping, to: hva)
    try container.updateAddress(
      of: range(0x20_0000, 1), to: ram.ramRegions[0].hvaFirst!.advanced(byBytes: 0x5000)!)
  }

  private static func range(_ first: UInt64, _ pageCount: UInt64) -> IOVARange {
    AddressRange(first: IOVA(first), last: IOVA(first + pageCount * 4096 - 1))
  }

  private static func map(
    _ container: Type1Container, _ ram: GuestRAM, iova: UInt64, gpa: UInt64,
    _ permissions: Permissions, pageCount: UInt64 = 1
  ) throws {
    try container.map(
      MapRequest(
        iova: range(iova, pageCount), gpaFirst: GPA(gpa),
        hvaFirst: ram.ramRegions[0].hvaFirst?.advanced(byBytes: gpa), permissions: permissions))
  }

  private static func bytes(_ ram: GuestRAM, _ gpa: UInt64) -> [UInt8] {
    ram.bytes(at: gpa, count: 2048)
  }

  /// Numbers of dirty pages.
  private static func query(
    _ container: Type1Container, first: UInt64, pageCount: UInt64
  ) throws -> Set<UInt64> {
    var bitmap = try QueryBitmap(byteCountMax: 4096)
    try bitmap.reset(window: range(first, pageCount), pageSize: .fourKiB)
    try container.dirtyLogs[0].query(&bitmap, clear: true)
    return Set((0..<pageCount).filter { bitmap.contains(IOVA(first + $0 * 4096)) })
  }
}
