import Addressing
import DMAContainer
import Locking
import PageBitmap
import Simulation
import VFIOKernel

/// A type1 container behind the fake kernel: what drivers/vfio/vfio_iommu_type1.c does with the
/// bytes of a request, over a simulated container that keeps the mappings and the dirt.
final class FakeContainer: Sendable {
  struct Options: Sendable {
    /// VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, from Linux 5.8.
    var hasMigration = true
    /// Linux 5.12.
    var hasUnmapAll = true
    /// Linux 7.3.
    var isSoundAtTheTop = true
    /// Says which IOVA may be mapped: a device behind the IOMMU is attached.
    var validRanges: [ClosedRange<UInt64>]?
    var hasAvailable = true
    /// Reads memory by its address: no address may become invalid.
    var hasMediatedDevice = false
    /// Stands before SET_IOMMU.
    var needsIOMMU = false
  }

  private struct State {
    var options: Options
    var hasIOMMU: Bool
    /// Sorted.
    var mappings: [IOVARange] = []
    /// Of those, the ones without an address.
    var invalid: Set<IOVARange> = []
  }

  let type1: SimulatedType1
  let gpaFirst: GPA
  let hvaFirst: HVA
  private let state: Mutex<State>

  /// - Parameter hvaFirst: where `gpaFirst` is said to be in memory; nothing is ever read there.
  init(
    _ type1: SimulatedType1, gpaFirst: GPA, hvaFirst: HVA = HVA(0x7f00_0000_0000),
    options: Options = Options()
  ) {
    self.type1 = type1
    self.gpaFirst = gpaFirst
    self.hvaFirst = hvaFirst
    self.state = Mutex(State(options: options, hasIOMMU: !options.needsIOMMU))
  }

  var options: Options {
    get { state.withLock { $0.options } }
    set { state.withLock { $0.options = newValue } }
  }
  var mappings: [IOVARange] { state.withLock { $0.mappings } }

  private var ownLog: any DirtyLog { type1.dirtyLogs[0] }

  func control(_ request: VFIORequest, value: Int) -> Int32 {
    switch request {
    case .getAPIVersion: return 0
    case .checkExtension:
      return value == 3 || value == 9 && options.hasUnmapAll
        || value == 10 && !options.hasMediatedDevice ? 1 : 0
    case .setIOMMU:
      guard value == 3 else { return -22 }
      state.withLock { $0.hasIOMMU = true }
      return 0
    default: return -25
    }
  }

  func control(_ request: VFIORequest, _ bytes: inout Bytes) -> Int32 {
    guard state.withLock({ $0.hasIOMMU }) else { return -22 }
    switch request.number {
    case 0x3B70: return information(&bytes)
    case 0x3B71: return map(bytes)
    case 0x3B72: return unmap(&bytes)
    case 0x3B75: return options.hasMigration ? dirtyPages(bytes) : -25
    default: return -25
    }
  }

  // MARK: GET_INFO

  private func information(_ bytes: inout Bytes) -> Int32 {
    let argsz = Int(bytes.u32(0))
    guard argsz >= 16 else { return -22 }
    var chain = chain()
    bytes.store((chain.isEmpty ? 1 : 3) as UInt32, 4)
    bytes.store(type1.capabilities.pageSizes.mask, 8)
    guard argsz >= 24 else { return 0 }
    bytes.store(0 as UInt32, 16)
    guard !chain.isEmpty else { return 0 }
    let needed = 24 + chain.reduce(0) { $0 + $1.count }
    guard argsz >= needed else {
      bytes.store(UInt32(needed), 0)
      return 0
    }
    bytes.store(24 as UInt32, 16)
    var offset = 24
    for index in chain.indices {
      let next = index + 1 < chain.count ? offset + chain[index].count : 0
      var part = Bytes(chain[index])
      part.store(UInt32(next), 4)
      chain[index] = part.bytes
      bytes.bytes.replaceSubrange(offset..<offset + part.bytes.count, with: part.bytes)
      offset += part.bytes.count
    }
    return 0
  }

  /// In the order of the kernel; `next` is filled in later.
  private func chain() -> [[UInt8]] {
    let options = options
    let capabilities = type1.capabilities
    var chain: [[UInt8]] = []
    if options.hasMigration {
      chain.append(
        Bytes.structure(
          2 as UInt16, 1 as UInt16, 0 as UInt32, 0 as UInt32, 0 as UInt32,
          capabilities.pageSizes.smallest?.bytes ?? 0, ownLog.capabilities.queryBitmapByteCountMax)
      )
    }
    if options.hasAvailable {
      let available = (capabilities.mappingCountMax ?? 0) - type1.mappingCount
      // 12 bytes and padding to 16.
      chain.append(
        Bytes.structure(
          3 as UInt16, 1 as UInt16, 0 as UInt32, UInt32(clamping: available), 0 as UInt32))
    }
    if let ranges = options.validRanges {
      var part = Bytes.structure(
        1 as UInt16, 1 as UInt16, 0 as UInt32, UInt32(ranges.count), 0 as UInt32)
      for range in ranges { part += Bytes.structure(range.lowerBound, range.upperBound) }
      chain.append(part)
    }
    return chain
  }

  // MARK: MAP_DMA, UNMAP_DMA

  private func map(_ bytes: Bytes) -> Int32 {
    let flags = bytes.u32(4)
    let (vaddr, iova, size) = (bytes.u64(8), bytes.u64(16), bytes.u64(24))
    if flags == 4 { return updateAddress(bytes.u32(0), HVA(vaddr), iova, size) }
    guard bytes.u32(0) >= 32, flags & ~3 == 0, flags != 0, size != 0 else { return -22 }
    guard let range = IOVARange(first: IOVA(iova), byteCount: size),
      HVA(vaddr).advanced(byBytes: size - 1) != nil
    else { return options.isSoundAtTheTop ? -75 : -22 }
    guard vaddr >= hvaFirst.rawValue else { return -14 }
    let request = MapRequest(
      iova: range, gpaFirst: GPA(gpaFirst.rawValue + (vaddr - hvaFirst.rawValue)),
      hvaFirst: HVA(vaddr), permissions: Permissions(rawValue: UInt8(flags)))
    do throws(ContainerError) {
      try type1.map(request)
    } catch {
      return -error.errno
    }
    state.withLock { state in
      state.mappings.append(range)
      state.mappings.sort { $0.first < $1.first }
    }
    return 0
  }

  private func unmap(_ bytes: inout Bytes) -> Int32 {
    let flags = bytes.u32(4)
    let (iova, size) = (bytes.u64(8), bytes.u64(16))
    guard bytes.u32(0) >= 24, flags & ~7 == 0, flags & 1 == 0 || flags == 1 else { return -22 }
    let range: IOVARange
    if flags & 2 != 0 {
      guard options.hasUnmapAll, iova == 0, size == 0 else { return -22 }
      range = .wholeSpace
    } else {
      guard size != 0 else { return -22 }
      guard let some = IOVARange(first: IOVA(iova), byteCount: size) else {
        return options.isSoundAtTheTop ? -75 : -22
      }
      range = some
    }
    if !options.isSoundAtTheTop, flags & 2 == 0, range.last.rawValue == .max {
      // iova + size is 0, and no mapping begins before that.
      bytes.store(0 as UInt64, 16)
      return 0
    }
    if flags & 4 != 0 { return invalidate(range, &bytes) }
    do throws(ContainerError) {
      let count: UInt64
      if flags == 1 {
        guard bytes.u32(0) >= 48 else { return -22 }
        count = try unmapDirty(range, bytes)
      } else {
        count = try type1.unmap(range)
      }
      bytes.store(count, 16)
    } catch {
      return -error.errno
    }
    state.withLock { state in
      state.mappings.removeAll { range.contains($0) }
      state.invalid.formIntersection(state.mappings)
    }
    return 0
  }

  /// Whole or not at all: a mapping without an address in the range undoes what was done.
  private func invalidate(_ range: IOVARange, _ bytes: inout Bytes) -> Int32 {
    if options.hasMediatedDevice { return -16 }
    let isCut = mappings.contains { $0.overlaps(range) && !range.contains($0) }
    let inside = mappings.filter { range.contains($0) }
    return state.withLock { state in
      guard !isCut, state.invalid.isDisjoint(with: inside) else { return -22 }
      state.invalid.formUnion(inside)
      bytes.store(inside.reduce(0 as UInt64) { $0 + $1.lastOffset + 1 }, 16)
      return 0
    }
  }

  private func updateAddress(
    _ argsz: UInt32, _ hva: HVA, _ iova: UInt64, _ size: UInt64
  ) -> Int32 {
    guard argsz >= 32, size != 0, (hva.rawValue | iova | size) & 0xfff == 0,
      let range = IOVARange(first: IOVA(iova), byteCount: size)
    else { return -22 }
    return state.withLock { state in
      guard state.mappings.contains(where: { $0.first == range.first }) else { return -2 }
      return state.invalid.remove(range) == nil ? -22 : 0
    }
  }

  private func unmapDirty(_ range: IOVARange, _ bytes: Bytes) throws(ContainerError) -> UInt64 {
    var bitmap = try bitmap(range, bytes)
    let count = try type1.unmap(reportingInto: &bitmap)
    copy(bitmap, to: bytes.u64(40))
    return count
  }

  // MARK: DIRTY_PAGES

  private func dirtyPages(_ bytes: Bytes) -> Int32 {
    guard bytes.u32(0) >= 8 else { return -22 }
    do throws(ContainerError) {
      switch bytes.u32(4) {
      case 1: try ownLog.start(logging: [], pageSize: .fourKiB)
      case 2: try ownLog.stop()
      case 4:
        guard bytes.u32(0) >= 48, bytes.u64(16) != 0 else { return -22 }
        guard let range = IOVARange(first: IOVA(bytes.u64(8)), byteCount: bytes.u64(16)) else {
          return -75
        }
        var bitmap = try bitmap(range, bytes)
        try ownLog.query(&bitmap, clear: true)
        copy(bitmap, to: bytes.u64(40))
      default: return -22
      }
      return 0
    } catch {
      return -error.errno
    }
  }

  /// What the request says its bitmap is, by the rules of verify_bitmap_size; both structures have
  /// theirs at 24.
  private func bitmap(_ range: IOVARange, _ bytes: Bytes) throws(ContainerError) -> QueryBitmap {
    func refused() -> ContainerError {
      ContainerError(.query, object: type1.name, range: range, errno: ContainerErrno.einval)
    }
    guard let pageSize = PageSize(bytes: bytes.u64(24)), range.isAligned(to: pageSize),
      let needed = QueryBitmap.byteCount(window: range, pageSize: pageSize)
    else { throw refused() }
    let size = bytes.u64(32)
    guard size >= UInt64(needed), size <= Limits.queryBitmapByteCountMax else { throw refused() }
    do {
      var bitmap = try QueryBitmap(byteCountMax: needed)
      try bitmap.reset(window: range, pageSize: pageSize)
      return bitmap
    } catch { throw refused() }
  }

  /// As update_user_bitmap writes: mapping by mapping, whole words, the first word of a mapping
  /// that does not begin on one keeping the user's bits below it. Words of holes are left alone.
  private func copy(_ bitmap: borrowing QueryBitmap, to address: UInt64) {
    guard let window = bitmap.window else { return }
    let words = bitmap.withWords { span in span.indices.map { span[$0] } }
    for mapping in mappings where window.contains(mapping) {
      let first = Int((mapping.first.rawValue - window.first.rawValue) >> bitmap.pageSize.shift)
      let last = Int((mapping.last.rawValue - window.first.rawValue) >> bitmap.pageSize.shift)
      for index in first / 64...last / 64 {
        var bits = words[index]
        if index == first / 64 {
          let low: UInt64 = (1 << UInt64(first % 64)) - 1
          bits = bits & ~low | FakeMemory.word(address, index) & low
        }
        // The mapping's own bits and no other's; beyond its end the kernel writes zeroes.
        if index == last / 64, last % 64 != 63 { bits &= (1 << UInt64(last % 64 + 1)) - 1 }
        FakeMemory.setWord(address, index, bits)
      }
    }
  }
}
