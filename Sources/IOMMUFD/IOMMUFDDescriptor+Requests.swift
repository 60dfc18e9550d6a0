import Addressing
import CSmudgeLinux

/// The requests that set things up. Map, unmap and dirty queries are made where they are used.
extension IOMMUFDDescriptor {
  private func check(
    _ result: Int32, _ request: IOMMUFDRequest, _ object: String, _ detail: String = ""
  ) throws(IOMMUFDError) {
    guard result < 0 else { return }
    throw IOMMUFDError(object: object, operation: request.name, errno: -result, detail: detail)
  }

  func allocateIOAS(for object: String) throws(IOMMUFDError) -> UInt32 {
    var call = smudge_iommu_ioas_alloc(
      size: RequestBytes.size(smudge_iommu_ioas_alloc.self), flags: 0, out_ioas_id: 0)
    try check(control(.allocateIOAS, &call), .allocateIOAS, object)
    return call.out_ioas_id
  }

  func destroy(_ id: UInt32) {
    var call = smudge_iommu_destroy(size: RequestBytes.size(smudge_iommu_destroy.self), id: id)
    // Closing the iommufd does it where this can not.
    _ = control(.destroy, &call)
  }

  /// IOMMU_OPTION_HUGE_PAGES of an IOAS with nothing mapped.
  func setHugePages(_ isOn: Bool, ioas: UInt32, for object: String) throws(IOMMUFDError) {
    var call = smudge_iommu_option(
      size: RequestBytes.size(smudge_iommu_option.self),
      option_id: UInt32(SMUDGE_IOMMU_OPTION_HUGE_PAGES), op: UInt16(SMUDGE_IOMMU_OPTION_OP_SET),
      reserved: 0, object_id: ioas, val64: isOn ? 1 : 0)
    try check(control(.option, &call), .option, object)
  }

  /// What may be mapped, and the alignment that takes.
  func iovaRanges(
    of ioas: UInt32, for object: String
  ) throws(IOMMUFDError) -> (ranges: [IOVARange], alignment: UInt64) {
    var room = [smudge_iommu_iova_range](repeating: .init(), count: 32)
    for _ in 0..<4 {
      var call = smudge_iommu_ioas_iova_ranges(
        size: RequestBytes.size(smudge_iommu_ioas_iova_ranges.self), ioas_id: ioas,
        num_iovas: UInt32(room.count), reserved: 0, allowed_iovas: 0, out_iova_alignment: 0)
      let result = RequestBytes.withAddress(of: &room) { address in
        call.allowed_iovas = address
        return control(.iovaRanges, &call)
      }
      let count = Int(call.num_iovas)
      if result == -IOMMUFDErrno.emsgsize, count > room.count, count <= Self.rangeCountMax {
        room = Array(repeating: .init(), count: count)
        continue
      }
      try check(result, .iovaRanges, object)
      let ranges = try room.prefix(count).map { (range) throws(IOMMUFDError) in
        guard range.start <= range.last else {
          throw IOMMUFDError(
            object: object, operation: IOMMUFDRequest.iovaRanges.name, errno: 0,
            detail: "a range begins at \(range.start) and ends at \(range.last)")
        }
        return IOVARange(first: IOVA(range.start), last: IOVA(range.last))
      }
      return (ranges, call.out_iova_alignment)
    }
    throw IOMMUFDError(
      object: object, operation: IOMMUFDRequest.iovaRanges.name, errno: IOMMUFDErrno.emsgsize,
      detail: "there are more ranges each time it is asked, or more than \(Self.rangeCountMax)")
  }

  /// Far past what the reserved regions of any host leave.
  private static let rangeCountMax = 1 << 16

  /// A page table of its own with dirty tracking, in front of the IOAS.
  func allocateTrackingHWPT(
    device: UInt32, ioas: UInt32, for object: String
  ) throws(IOMMUFDError) -> UInt32 {
    var call = smudge_iommu_hwpt_alloc(
      size: RequestBytes.size(smudge_iommu_hwpt_alloc.self),
      flags: UInt32(SMUDGE_IOMMU_HWPT_ALLOC_DIRTY_TRACKING), dev_id: device, pt_id: ioas,
      out_hwpt_id: 0, reserved: 0, data_type: 0, data_len: 0, data_uptr: 0, fault_id: 0,
      reserved2: 0)
    try check(control(.allocateHWPT, &call), .allocateHWPT, object)
    return call.out_hwpt_id
  }

  /// Whether the IOMMU in front of a device has dirty bits.
  func hasDirtyBits(device: UInt32, for object: String) throws(IOMMUFDError) -> Bool {
    var call = smudge_iommu_hw_info(
      size: RequestBytes.size(smudge_iommu_hw_info.self), flags: 0, dev_id: device, data_len: 0,
      data_uptr: 0, out_data_type: 0, reserved: 0, out_capabilities: 0)
    try check(control(.hardwareInformation, &call), .hardwareInformation, object)
    return call.out_capabilities & UInt64(SMUDGE_IOMMU_HW_CAP_DIRTY_TRACKING) != 0
  }

  // MARK: of a device

  /// - Returns: the id the device has in the iommufd.
  func bind(to iommufd: IOMMUFDDescriptor, for object: String) throws(IOMMUFDError) -> UInt32 {
    var call = smudge_vfio_device_bind_iommufd(
      argsz: RequestBytes.size(smudge_vfio_device_bind_iommufd.self), flags: 0,
      iommufd: iommufd.rawValue, out_devid: 0)
    try check(
      control(.bind, &call), .bind, object,
      "the device stays with the kernel, unbound; is it bound already, or its group in use?")
    return call.out_devid
  }

  /// Attaches a bound device to a HWPT or an IOAS.
  /// - Returns: the HWPT it is attached to.
  @discardableResult
  func attach(to table: UInt32, for object: String) throws(IOMMUFDError) -> UInt32 {
    var call = smudge_vfio_device_attach_iommufd_pt(
      argsz: RequestBytes.size(smudge_vfio_device_attach_iommufd_pt.self), flags: 0, pt_id: table)
    try check(control(.attach, &call), .attach, object)
    return call.pt_id
  }

  func detach(for object: String) throws(IOMMUFDError) {
    var call = smudge_vfio_device_detach_iommufd_pt(
      argsz: RequestBytes.size(smudge_vfio_device_detach_iommufd_pt.self), flags: 0)
    try check(control(.detach, &call), .detach, object)
  }
}
