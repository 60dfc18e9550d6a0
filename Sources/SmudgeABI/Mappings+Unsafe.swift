import Addressing
public import CSmudge
import DirtyTracker
import PageBitmap
import Locking

/// Mappings, told and asked for. Unsafe because of the caller's bitmap and results; sound because
/// a bitmap has a bit for each page of the range, by the header, and no more are read.
@c @implementation
public func smudge_map(
  _ container: OpaquePointer?, _ iova: UInt64, _ gpa: UInt64, _ size: UInt64, _ flags: UInt32
) -> Int32 {
  unsafe Call.container(container, "smudge_map") { handle, tracker throws(Failure) in
    try Parameters.flags(flags, known: MapFlags.known, "flags")
    let range: IOVARange = try Parameters.range(iova, size, "IOVA")
    try Mappings.check(range, GPA(gpa))
    return try Failure.of { () throws(TrackerError) in
      try tracker.iommuMap(
        handle.id, range, to: GPA(gpa), permissions: MapFlags.permissions(flags),
        isAhead: flags & UInt32(SMUDGE_MAP_AHEAD) != 0)
    }
  }
}

@c @implementation
public func smudge_unmap(
  _ container: OpaquePointer?, _ iova: UInt64, _ size: UInt64, _ dirty: UnsafePointer<UInt64>?
) -> Int32 {
  unsafe Call.container(container, "smudge_unmap") { handle, tracker throws(Failure) in
    let range: IOVARange =
      size == 0 && iova == 0
      ? .wholeSpace : try Parameters.range(iova, size, "IOVA")
    guard let dirty = unsafe dirty else {
      return try Failure.of { () throws(TrackerError) in
        if handle.isOwnedByVMM {
          try tracker.iommuUnmapped(handle.id, range)
        } else {
          try tracker.iommuUnmap(handle.id, range)
        }
      }
    }
    return unsafe try Mappings.unmapped(handle, tracker, range, dirty)
  }
}

@c @implementation
public func smudge_lookup(
  _ container: OpaquePointer?, _ iova: UInt64, _ out: UnsafeMutablePointer<smudge_mapping>?
) -> Int32 {
  unsafe Call.container(container, "smudge_lookup", waits: false) {
    handle, tracker throws(Failure) in
    unsafe try Parameters.check(out, smudge_mapping(), "out")
    guard let found = tracker.lookup(handle.id, IOVA(iova)) else {
      throw Failure(SMUDGE_ENOENT, "nothing is mapped at IOVA \(IOVA(iova))")
    }
    var mapping = smudge_mapping()
    mapping.flags =
      (found.permissions.contains(.read) ? UInt32(SMUDGE_MAP_READ) : 0)
      | (found.permissions.contains(.write) ? UInt32(SMUDGE_MAP_WRITE) : 0)
    mapping.iova = found.iova.first.rawValue
    mapping.gpa = found.gpaFirst.rawValue
    mapping.byte_count = found.iova.lastOffset &+ 1
    unsafe Parameters.store(mapping, to: out)
    return 0
  }
}

@c @implementation
public func smudge_device_wrote(
  _ container: OpaquePointer?, _ iova: UInt64, _ size: UInt64
) -> Int32 {
  unsafe Call.container(container, "smudge_device_wrote", waits: false) {
    handle, tracker throws(Failure) in
    let range: IOVARange = try Parameters.range(iova, size, "IOVA", pageSize: nil)
    tracker.deviceWrote(handle.id, range)
    return 0
  }
}

enum MapFlags {
  static let known = SMUDGE_MAP_READ | SMUDGE_MAP_WRITE | SMUDGE_MAP_AHEAD

  @inline(__always) static func permissions(_ flags: UInt32) -> Permissions {
    var permissions: Permissions = []
    if flags & UInt32(SMUDGE_MAP_READ) != 0 { permissions.insert(.read) }
    if flags & UInt32(SMUDGE_MAP_WRITE) != 0 { permissions.insert(.write) }
    return permissions
  }
}

enum Mappings {
  /// What no table takes is refused before the tracker hears of it. A mapping that a VMM has made,
  /// and that its table then refuses, would leave every page dirty for good.
  @inline(__always) static func check(_ iova: IOVARange, _ gpa: GPA) throws(Failure) {
    guard gpa.isAligned(to: .fourKiB) else {
      throw .misuse("GPA \(gpa) is not the first byte of a page of 4 KiB")
    }
    guard iova.lastOffset < Limits.mappingByteCountMax else {
      throw Failure(
        SMUDGE_E2BIG,
        "IOVA \(iova) has more than \(Limits.mappingByteCountMax) bytes; nothing changed")
    }
  }

  /// The VMM has unmapped, and has this bitmap of it: its query is not asked too.
  static func unmapped(
    _ handle: ContainerHandle, _ tracker: DirtyTracker, _ range: IOVARange,
    _ dirty: UnsafePointer<UInt64>
  ) throws(Failure) -> Int32 {
    guard handle.isOwnedByVMM else {
      throw Failure(TrackerError.notOwnedByVMM(container: "\(handle.id)", range))
    }
    let pageSize = tracker.policy.pageSize
    guard let byteCount = QueryBitmap.byteCount(window: range, pageSize: pageSize),
      range.isAligned(to: pageSize)
    else { throw .misuse("IOVA \(range) has no bitmap of pages of \(pageSize)") }
    return try handle.scratch.withLock { (kept) throws(Failure) in
      // One that is closed keeps nothing.
      guard !handle.isClosed else {
        throw Failure(TrackerError.unknownContainer(handle.id))
      }
      var scratch = try take(&kept, byteCount)
      do throws(PageBitmapError) {
        try scratch.reset(window: range, pageSize: pageSize)
      } catch {
        throw outOfMemory(error)
      }
      unsafe fill(&scratch, range, pageSize, dirty)
      smudge_thread_set_has_bitmap(1)
      defer { smudge_thread_set_has_bitmap(0) }
      do throws(TrackerError) {
        try tracker.iommuUnmapped(handle.id, range, dirty: scratch)
      } catch {
        throw Failure(error)
      }
      kept = consume scratch
      return 0
    }
  }

  /// Bits of 2 GiB in pages of 4 KiB.
  private static let scratchByteCountMin = 64 << 10

  private static func take(
    _ kept: inout QueryBitmap?, _ byteCount: Int
  ) throws(Failure) -> QueryBitmap {
    if let one = kept.take() {
      if one.byteCountMax >= byteCount { return one }
    }
    do throws(PageBitmapError) {
      return try QueryBitmap(byteCountMax: max(byteCount, scratchByteCountMin))
    } catch {
      throw outOfMemory(error)
    }
  }

  private static func outOfMemory(_ error: PageBitmapError) -> Failure {
    Failure(SMUDGE_ENOMEM, "\(error); nothing changed")
  }

  private static func fill(
    _ bitmap: inout QueryBitmap, _ range: IOVARange, _ pageSize: PageSize,
    _ dirty: UnsafePointer<UInt64>
  ) {
    let last = (range.lastOffset &>> pageSize.shift) & 63
    for index in 0..<bitmap.wordCount {
      var word = unsafe UInt64(littleEndian: dirty[index])
      if index == bitmap.wordCount - 1 { word &= UInt64.max &>> (63 &- last) }
      if word != 0 { bitmap.merge(word: index, word) }
    }
  }
}
