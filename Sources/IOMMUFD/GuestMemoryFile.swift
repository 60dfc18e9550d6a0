public import Addressing

/// A piece of guest memory as a file (a memfd), for IOMMU_IOAS_MAP_FILE of Linux 6.13: the kernel
/// then needs no mapping of it in this process.
public struct GuestMemoryFile: Hashable, Sendable {
  public let gpa: GPARange
  /// Stays open as long as the container is used.
  public let descriptor: Int32
  /// Where `gpa.first` lies in the file, in bytes.
  public let fileOffset: UInt64

  public init(gpa: GPARange, descriptor: Int32, fileOffset: UInt64 = 0) {
    self.gpa = gpa
    self.descriptor = descriptor
    self.fileOffset = fileOffset
  }

  /// Where `byteCount` bytes from `first` lie in the file; nil when they do not, or not all.
  func offset(of first: GPA, byteCount: UInt64) -> UInt64? {
    guard let range = GPARange(first: first, byteCount: byteCount), gpa.contains(range) else {
      return nil
    }
    let (offset, overflow) = fileOffset.addingReportingOverflow(
      first.rawValue &- gpa.first.rawValue)
    return overflow ? nil : offset
  }
}
