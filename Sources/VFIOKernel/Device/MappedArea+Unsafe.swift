import CSmudgeLinux
import DeviceMigration

/// A part of a device's region in this process's memory.
///
/// Unsafe because the device's memory is reached by address. Sound because mmap gave the address
/// for that many bytes, every access is bounded by a precondition, the bytes are copied by relaxed
/// atomic accesses, and the mapping ends with this object.
final class MappedArea: Sendable {
  let area: VFIORegion.Area
  private let address: UInt64
  private let calls: any VFIOCalls

  /// Nil when the device can not be mapped there: reads and writes go through the descriptor then.
  init?(_ area: VFIORegion.Area, of region: VFIORegion, _ descriptor: VFIODescriptor) {
    let mapped = descriptor.calls.map(
      descriptor.rawValue, offset: region.offset &+ area.offset, byteCount: area.byteCount)
    guard mapped > 0 else { return nil }
    self.area = area
    self.address = UInt64(mapped)
    self.calls = descriptor.calls
  }

  deinit { calls.unmap(address: address, byteCount: area.byteCount) }

  private func pointer(_ offset: UInt64, _ byteCount: Int) -> UnsafeMutableRawPointer? {
    precondition(
      offset >= area.offset && offset <= area.end && area.end &- offset >= UInt64(byteCount),
      "outside the mapped area")
    return unsafe UnsafeMutableRawPointer(bitPattern: UInt(address &+ (offset &- area.offset)))
  }

  /// - Parameter offset: from the start of the region.
  func read(at offset: UInt64, into buffer: inout MutableRawSpan, from start: Int, byteCount: Int) {
    guard let from = unsafe pointer(offset, byteCount) else { return }
    unsafe buffer.withUnsafeMutableBytes { to in
      let part = unsafe UnsafeMutableRawBufferPointer(rebasing: to[start..<start + byteCount])
      guard let base = part.baseAddress else { return }
      unsafe smudge_memory_load(base, from, byteCount)
    }
  }

  func write(_ bytes: RawSpan, at offset: UInt64) {
    guard let to = unsafe pointer(offset, bytes.byteCount) else { return }
    unsafe bytes.withUnsafeBytes { from in
      guard let base = from.baseAddress else { return }
      unsafe smudge_memory_store(to, base, from.count)
    }
  }
}
