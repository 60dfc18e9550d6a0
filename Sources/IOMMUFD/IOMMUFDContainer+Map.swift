public import Addressing
import CSmudgeLinux
public import DMAContainer
import IOVAMapping
import Locking

extension IOMMUFDContainer {
  public func map(_ request: MapRequest) throws(ContainerError) {
    guard let length = request.iova.byteCount else {
      throw refused(.map, request.iova, ContainerErrno.eoverflow, "2^64 bytes have no length")
    }
    let result = try ask(request, length)
    guard result >= 0 else {
      throw refused(.map, request.iova, -result, Self.mapDetail(-result))
    }
    let refusal = state.withLock { (state: inout State) -> MappingError? in
      do throws(MappingError) {
        // What the kernel maps now is mapped no more as the table has it.
        if state.hasPartialUnmap { Self.forget(request.iova, &state) }
        try state.table.map(
          request.iova, to: request.gpaFirst, permissions: request.permissions)
        return nil
      } catch {
        return error
      }
    }
    guard let refusal else { return }
    _ = callUnmap(request.iova.first.rawValue, length)
    throw refused(.map, request.iova, ContainerErrno.enospc, "\(refusal)")
  }

  /// By file where the memory was given as one and the kernel can, else by address.
  private func ask(_ request: MapRequest, _ length: UInt64) throws(ContainerError) -> Int32 {
    var flags = UInt32(SMUDGE_IOMMU_MAP_FIXED_IOVA)
    if request.permissions.contains(.read) { flags |= UInt32(SMUDGE_IOMMU_MAP_READABLE) }
    if request.permissions.contains(.write) { flags |= UInt32(SMUDGE_IOMMU_MAP_WRITEABLE) }
    let lacksMapFile = state.withLock { $0.lacksMapFile }
    if !lacksMapFile, let (file, offset) = file(behind: request.gpaFirst, length) {
      var call = smudge_iommu_ioas_map_file(
        size: RequestBytes.size(smudge_iommu_ioas_map_file.self), flags: flags, ioas_id: ioas,
        fd: file.descriptor, start: offset, length: length, iova: request.iova.first.rawValue)
      let result = descriptor.control(.mapFile, &call)
      guard result == -IOMMUFDErrno.enotty else { return result }
      state.withLock { $0.lacksMapFile = true }
    }
    guard let hva = request.hvaFirst else {
      throw refused(
        .map, request.iova, 0,
        "the memory at GPA \(request.gpaFirst) is not mapped in this process, and not given as a"
          + " file that this kernel maps (Linux 6.13)")
    }
    var call = smudge_iommu_ioas_map(
      size: RequestBytes.size(smudge_iommu_ioas_map.self), flags: flags, ioas_id: ioas,
      reserved: 0, user_va: hva.rawValue, length: length, iova: request.iova.first.rawValue)
    return descriptor.control(.map, &call)
  }

  private func file(behind gpa: GPA, _ length: UInt64) -> (GuestMemoryFile, offset: UInt64)? {
    for file in memoryFiles {
      if let offset = file.offset(of: gpa, byteCount: length) { return (file, offset) }
    }
    return nil
  }

  @discardableResult
  public func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    let cut = state.withLock { (state: inout State) -> MappingError? in
      do throws(MappingError) {
        try state.table.canUnmap(range)
        return nil
      } catch {
        return error
      }
    }
    if let cut { throw refused(.unmap, range, IOMMUFDErrno.enoent, "\(cut)") }
    // Address 0 and length 2^64-1 mean everything, and then nothing is no error.
    let answer = callUnmap(range.first.rawValue, range.byteCount ?? .max)
    if answer.result >= 0 {
      state.withLock { state in
        Self.forget(range, &state)
        if state.table.count == 0 { state.hasPartialUnmap = false }
      }
      return answer.byteCount
    }
    throw failed(range, -answer.result)
  }

  private func callUnmap(_ iova: UInt64, _ length: UInt64) -> (result: Int32, byteCount: UInt64) {
    var call = smudge_iommu_ioas_unmap(
      size: RequestBytes.size(smudge_iommu_ioas_unmap.self), ioas_id: ioas, iova: iova,
      length: length)
    let result = descriptor.control(.unmap, &call)
    return (result, call.length)
  }

  /// The kernel removes mapping by mapping and does not say how many before it failed.
  private func failed(_ range: IOVARange, _ errno: Int32) -> ContainerError {
    let (isPartial, isGone) = state.withLock { (state: inout State) -> (Bool, Bool) in
      var count = 0
      state.table.forEach(in: range) { _ in count += 1 }
      if errno == IOMMUFDErrno.enoent {
        // Nothing is there, or a mapping of somebody else is cut behind some of these.
        let isPartial = count > 0 && !state.hasPartialUnmap
        if isPartial { state.hasPartialUnmap = true } else { Self.forget(range, &state) }
        return (isPartial, !isPartial)
      }
      // One mapping goes whole or stays; neither does an error of the arguments remove anything.
      let isPartial = count > 1 && Self.failsOnTheWay.contains(errno)
      if isPartial { state.hasPartialUnmap = true }
      return (isPartial, false)
    }
    return refused(
      .unmap, range, errno, Self.unmapDetail(errno), isPartial: isPartial, isGone: isGone)
  }

  /// Not given before the first mapping is looked at.
  private static let failsOnTheWay: Set<Int32> = [
    IOMMUFDErrno.ebusy, IOMMUFDErrno.edeadlock, ContainerErrno.efault, ContainerErrno.eio,
    ContainerErrno.enomem,
  ]

  private static func forget(_ range: IOVARange, _ state: inout State) {
    if (try? state.table.unmap(range)) != nil { return }
    // Of a mapping that it cuts the whole is gone.
    while let first = state.table.firstMapping(overlapping: range) {
      _ = try? state.table.unmap(first.iova)
    }
  }

  private func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange, _ errno: Int32, _ detail: String,
    isPartial: Bool = false, isGone: Bool = false
  ) -> ContainerError {
    ContainerError(
      operation, object: name, range: range, errno: errno, detail: detail, isPartial: isPartial,
      isGone: isGone)
  }

  private static func mapDetail(_ errno: Int32) -> String {
    switch errno {
    case ContainerErrno.eexist: "it overlaps a mapping"
    case ContainerErrno.einval:
      "not whole pages on both sides, neither readable nor writable, or not in a valid range"
    case ContainerErrno.enomem: "no memory, or more pinned than RLIMIT_MEMLOCK allows"
    case ContainerErrno.efault: "its memory can not be pinned"
    case ContainerErrno.enoent: "the IOAS is gone"
    case ContainerErrno.eoverflow: "it ends past 2^64-1"
    default: ""
    }
  }

  private static func unmapDetail(_ errno: Int32) -> String {
    switch errno {
    case ContainerErrno.enoent: "nothing is mapped there, or a mapping is cut"
    case ContainerErrno.ebusy: "a device, or another thread, holds a mapping"
    case IOMMUFDErrno.edeadlock: "an emulated device does not let go of pages (EDEADLOCK)"
    default: ""
    }
  }
}
