public import Addressing

/// The log refused a change. It is as before.
public enum GuestDirtyLogError: Error, Hashable, Sendable, CustomStringConvertible {
  case unaligned(RAMRegion, pageSize: PageSize)
  case overlap(new: RAMRegion, existing: RAMRegion)
  case nameTaken(String)
  case noRegion(at: GPA)
  case tooManyRegions(limit: Int)
  case tooManyConsumers(limit: Int)
  case outOfMemory(RAMRegion, reason: String)

  public var description: String {
    switch self {
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
