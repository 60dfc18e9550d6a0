public import Addressing

/// One thing a guest's IOMMU driver does, as a VMM's vIOMMU reports it.
public enum IOMMUEvent: Hashable, Sendable, CustomStringConvertible {
  case map(IOVARange, gpa: GPA, Permissions)
  /// Everything mapped in the range goes; it may hold many mappings, holes, or nothing.
  case unmap(IOVARange)
  /// On: devices reach RAM by GPA, no translation. Off: only through mappings, of which there are
  /// none.
  case passThrough(Bool)
  /// Time passes.
  case idle

  public var description: String {
    switch self {
    case .map(let iova, let gpa, let permissions): "map \(iova) -> GPA \(gpa) \(permissions)"
    case .unmap(let iova): "unmap \(iova)"
    case .passThrough(let isOn): "pass-through \(isOn ? "on" : "off")"
    case .idle: "idle"
    }
  }
}
