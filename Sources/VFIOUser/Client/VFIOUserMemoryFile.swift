public import Addressing

/// A piece of guest memory as a file that a server may have: it reaches what lies there by itself.
/// What lies in no such piece it reaches by message.
public struct VFIOUserMemoryFile: Sendable {
  public let gpa: GPARange
  public let descriptor: OwnedDescriptor
  /// Where `gpa.first` lies in the file, bytes.
  public let fileOffset: UInt64
  public let access: DMAMapMessage.Access

  public init(
    gpa: GPARange, descriptor: OwnedDescriptor, fileOffset: UInt64 = 0,
    access: DMAMapMessage.Access = .unstated
  ) {
    self.gpa = gpa
    self.descriptor = descriptor
    self.fileOffset = fileOffset
    self.access = access
  }

  /// Where the range lies in the file; nil when it does not, or not all.
  func offset(of range: GPARange) -> UInt64? {
    guard gpa.contains(range) else { return nil }
    let (offset, isPast) = fileOffset.addingReportingOverflow(
      range.first.rawValue &- gpa.first.rawValue)
    return isPast ? nil : offset
  }
}
