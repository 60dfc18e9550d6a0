public import Addressing

/// The log refused a change. It is as before.
public enum GuestDirtyLogError: Error, Hashable, Sendable, CustomStringConvertible {
  case zeroSize(String, at: GPA)
  case pastAddressSpace(String, at: GPA, byteCount: UInt64)
  /// All regions together may have `pageCountMax` pages.
  case pastLimit(RAMRegion, pageCountMax: UInt64)
  case unaligned(RAMRegion, pageSize: PageSize)
  case overlap(new: RAMRegion, existing: RAMRegion)
  case nameTaken(String)
  case noRegion(at: GPA)
  case tooManyRegions(limit: Int)
  case tooManyConsumers(limit: Int)
  case outOfMemory(RAMRegion, reason: String)

  public var description: String {
    switch self {
    case .zeroSize(let name, let gpa): "RAM \(name) at GPA \(gpa) has no bytes; it was not added"
    case .pastAddressSpace(let name, let gpa, let byteCount):
      "RAM \(name) of \(byteCount) bytes at GPA \(gpa) runs past 2^64-1; it was not added"
    case .pastLimit(let region, let pages):
      "\(region) would take the log past its limit of \(pages) pages; it was not added"
    case .unaligned(let region, let pageSize):
      "\(region) does not consist of whole pages of \(pageSize); it was not added"
    case .overlap(let new, let existing): "\(new) overlaps \(existing); it was not added"
    case .nameTaken(let name): "there is a RAM region \(name) already; nothing was added"
    case .noRegion(let gpa): "no RAM region holds GPA \(gpa); nothing was removed"
    case .tooManyRegions(let limit):
      "the log holds its limit of \(limit) RAM regions; nothing was added"
    case .tooManyConsumers(let limit):
      "the log holds its limit of \(limit) consumers; none was added"
    case .outOfMemory(let region, let reason): "\(region) was not added: \(reason)"
    }
  }
}
