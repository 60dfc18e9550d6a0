/// Who says that a page is dirty.
public enum DirtySource: Hashable, Sendable, CustomStringConvertible {
  /// A vCPU, or the VMM on its behalf.
  case vcpu
  /// A dirty query of a container.
  case deviceQuery(ContainerID)
  /// The dirt of a mapping that was unmapped.
  case unmap(ContainerID)
  /// Nothing better was known: a failed query, a window that nobody watched, no tracker at all.
  case conservative(ContainerID?)
  /// A harvest that was not delivered.
  case putBack

  public var description: String {
    switch self {
    case .vcpu: "vCPU"
    case .deviceQuery(let container): "device query of \(container)"
    case .unmap(let container): "unmap of \(container)"
    case .conservative(let container): container.map { "conservative for \($0)" } ?? "conservative"
    case .putBack: "put back"
    }
  }
}

/// A container of one tracker, by number.
public struct ContainerID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let rawValue: UInt16
  public init(_ rawValue: UInt16) { self.rawValue = rawValue }
  public static func < (left: ContainerID, right: ContainerID) -> Bool {
    left.rawValue < right.rawValue
  }
  public var description: String { "container \(rawValue)" }
}
