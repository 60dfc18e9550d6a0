public import Addressing
import CSmudgeLinux
import CTestLinux
public import IOMMUFD

/// A device that exists in the kernel's iommufd self-test only (CONFIG_IOMMUFD_TEST): bound,
/// attached, and behind a mock IOMMU with real page tables whose dirty bits a test sets. What the
/// test sets is the ground truth; how it comes out again is the kernel's doing and ours.
///
/// The mock IOMMU has entries of 2 KiB and maps IOVA 16 MiB up to 2 GiB.
public final class MockDevice: Sendable {
  public static let aperture = IOVARange(
    first: IOVA(UInt64(SMUDGE_MOCK_APERTURE_FIRST)),
    last: IOVA(UInt64(SMUDGE_MOCK_APERTURE_LAST)))
  /// Bytes of one table entry; in a huge table there are also entries of 512 times as much.
  public static let entryByteCount = UInt64(SMUDGE_MOCK_PAGE_BYTES)

  /// What a bound device has: for ``IOMMUFDContainer/allocateHWPT(_:device:)`` and
  /// ``IOMMUFDContainer/addDevice(_:id:hwpt:log:)``.
  public let deviceID: UInt32
  /// The HWPT without tracking that attaching to an IOAS makes.
  public let automaticHWPT: UInt32
  private let mockID: UInt32
  private let iommufd: IOMMUFDDescriptor
  private let calls: any IOMMUFDCalls

  static let test = IOMMUFDRequest(Int(SMUDGE_IOMMU_TEST_CMD), "IOMMU_TEST_CMD")

  /// Why this kernel has no mock devices; nil when it has.
  public static func unavailable(calls: any IOMMUFDCalls = LinuxIOMMUFDCalls()) -> String? {
    do throws(IOMMUFDError) {
      let container = try IOMMUFDContainer(calls: calls)
      let device = try MockDevice(in: container, calls: calls)
      device.destroy()
      return nil
    } catch {
      return "\(error)"
    }
  }

  /// Makes one and attaches it straight to the container's IOAS.
  public init(
    in container: IOMMUFDContainer, hasDirtyBits: Bool = true,
    calls: any IOMMUFDCalls = LinuxIOMMUFDCalls()
  ) throws(IOMMUFDError) {
    var call = smudge_mock_domain()
    call.size = UInt32(MemoryLayout<smudge_mock_domain>.size)
    call.op = UInt32(SMUDGE_MOCK_OP_DOMAIN_FLAGS)
    call.id = container.ioas
    call.dev_flags = hasDirtyBits ? 0 : UInt32(SMUDGE_MOCK_DEVICE_NO_DIRTY)
    let iommufd = container.descriptor
    let result = MockBytes.writing(&call) { calls.control(iommufd.rawValue, Self.test, &$0) }
    try Self.check(result, "MOCK_DOMAIN_FLAGS", "the kernel needs CONFIG_IOMMUFD_TEST")
    self.deviceID = call.out_idev_id
    self.automaticHWPT = call.out_hwpt_id
    self.mockID = call.out_stdev_id
    self.iommufd = iommufd
    self.calls = calls
  }

  /// Moves the device to a HWPT of its IOAS (MOCK_DOMAIN_REPLACE).
  public func attach(to hwpt: HWPTDirtyLog) throws(IOMMUFDError) {
    var call = smudge_mock_replace()
    call.size = UInt32(MemoryLayout<smudge_mock_replace>.size)
    call.op = UInt32(SMUDGE_MOCK_OP_REPLACE)
    call.id = mockID
    call.pt_id = hwpt.id
    let result = MockBytes.writing(&call) { calls.control(iommufd.rawValue, Self.test, &$0) }
    try Self.check(result, "MOCK_DOMAIN_REPLACE")
  }

  /// A tracking HWPT whose mappings of 1 MiB and more, aligned, are single entries.
  public func allocateHugeHWPT(
    _ name: String, in container: IOMMUFDContainer
  ) throws(IOMMUFDError) -> HWPTDirtyLog {
    var data = smudge_mock_hwpt(iotlb: 0, pagetable_type: UInt32(SMUDGE_MOCK_TABLE_HUGE))
    var call = smudge_iommu_hwpt_alloc()
    call.size = UInt32(MemoryLayout<smudge_iommu_hwpt_alloc>.size)
    call.flags = UInt32(SMUDGE_IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
    call.dev_id = deviceID
    call.pt_id = container.ioas
    call.data_type = UInt32(SMUDGE_MOCK_HWPT_DATA)
    call.data_len = UInt32(MemoryLayout<smudge_mock_hwpt>.size)
    let result = MockBytes.withAddress(of: &data) { address in
      call.data_uptr = address
      return MockBytes.writing(&call) { calls.control(iommufd.rawValue, .allocateHWPT, &$0) }
    }
    try Self.check(result, "IOMMU_HWPT_ALLOC")
    return container.adoptHWPT(name, id: call.out_hwpt_id)
  }

  /// Sets the dirty bits of entries, as a device's writes would (IOMMU_TEST_OP_DIRTY).
  /// - Parameters:
  ///   - window: of whole pages; `isDirty` is asked for each.
  ///   - pageByteCount: 2048, or a multiple.
  /// - Returns: pages set.
  @discardableResult
  public func write(
    to hwpt: HWPTDirtyLog, in window: IOVARange, pageByteCount: UInt64 = MockDevice.entryByteCount,
    where isDirty: (IOVA) -> Bool
  ) throws(IOMMUFDError) -> UInt64 {
    let count = (window.lastOffset / pageByteCount) + 1
    var words = [UInt64](repeating: 0, count: Int((count + 63) / 64))
    for page in 0..<count {
      let address = IOVA(window.first.rawValue + page * pageByteCount)
      if isDirty(address) { words[Int(page / 64)] |= 1 << (page % 64) }
    }
    var call = smudge_mock_dirty()
    call.size = UInt32(MemoryLayout<smudge_mock_dirty>.size)
    call.op = UInt32(SMUDGE_MOCK_OP_DIRTY)
    call.id = hwpt.id
    call.iova = window.first.rawValue
    call.length = count * pageByteCount
    call.page_size = pageByteCount
    let result = MockBytes.withAddress(of: &words) { address in
      call.uptr = address
      return MockBytes.writing(&call) { calls.control(iommufd.rawValue, Self.test, &$0) }
    }
    try Self.check(result, "DIRTY")
    return call.out_nr_dirty
  }

  /// The device is gone; what it was attached to can be destroyed.
  public func destroy() {
    var call = smudge_iommu_destroy(
      size: UInt32(MemoryLayout<smudge_iommu_destroy>.size), id: mockID)
    _ = MockBytes.writing(&call) { calls.control(iommufd.rawValue, .destroy, &$0) }
  }

  private static func check(
    _ result: Int32, _ operation: String, _ detail: String = ""
  ) throws(IOMMUFDError) {
    guard result < 0 else { return }
    throw IOMMUFDError(
      object: "mock device", operation: operation, errno: -result, detail: detail)
  }
}
