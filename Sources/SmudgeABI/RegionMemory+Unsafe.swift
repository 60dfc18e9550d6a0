import Addressing
import DeviceMigration
import GuestDirtyLog

/// Guest RAM by the host addresses that the VMM gave for its regions.
///
/// Unsafe because these are addresses of the VMM's. Sound by the header: the memory is there for as
/// long as its region is, and a migration is over before the VMM removes one. The guest may write
/// while a page is read; the page is dirty then, and is read again.
final class RegionMemory: GuestMemory {
  private let log: GuestDirtyLog

  init(_ log: GuestDirtyLog) { self.log = log }

  /// The first region without an address.
  var invisible: RAMRegion? { log.regions.first { $0.hvaFirst == nil } }

  private func address(of range: GPARange) -> UnsafeMutableRawPointer? {
    guard let region = log.region(holding: range.first), region.gpa.contains(range),
      let host = region.hvaFirst
    else { return nil }
    let address = host.rawValue &+ (range.first.rawValue &- region.gpa.first.rawValue)
    return unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
  }

  func withBytes<R, E: Error>(
    of range: GPARange, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard let address = unsafe address(of: range) else { return nil }
    let bytes = unsafe UnsafeRawBufferPointer(start: address, count: Int(range.lastOffset) + 1)
    return try unsafe body(bytes.bytes)
  }

  func withMutableBytes<R, E: Error>(
    of range: GPARange, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard let address = unsafe address(of: range) else { return nil }
    let bytes = unsafe UnsafeMutableRawBufferPointer(
      start: address, count: Int(range.lastOffset) + 1)
    var span = unsafe bytes.mutableBytes
    return try body(&span)
  }
}
