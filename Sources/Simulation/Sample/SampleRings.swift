import Addressing

/// Buffers a driver maps once and keeps, as for its device's queues: where a device writes again
/// and again, and what no unmap ever reports.
struct SampleRings {
  /// First IOVA of the first set; the sets lie 64 GiB apart, out of reach of what is recorded.
  static let iovaFirst: UInt64 = 1 << 40
  static let bufferPageCount: UInt64 = 16

  let layout: GuestLayout
  let container: Int

  /// Set 0 is there from the start; a set that comes later lies outside the ranges a device log
  /// was started with.
  func set(_ number: Int) -> [Mapping] {
    // The upper half of RAM, where no vCPU writes.
    let half = layout.pageCount / 2
    let slots = half / Self.bufferPageCount
    let count = min(128, slots / 4)
    let skipped = UInt64(number * 3 + container) &* count
    let base = Self.iovaFirst &+ UInt64(number) << 36
    return (0..<count).map { index in
      let page = half &+ (skipped &+ index) % slots &* Self.bufferPageCount
      let iova = IOVA(base &+ index &* Self.bufferPageCount &* 2 &* 4096)
      let last = IOVA(iova.rawValue &+ Self.bufferPageCount &* 4096 &- 1)
      return Mapping(
        iova: AddressRange(first: iova, last: last), gpaFirst: layout.gpa(ofPage: page),
        permissions: .readWrite)
    }
  }
}
