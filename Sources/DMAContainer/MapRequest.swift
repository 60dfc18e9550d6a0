public import Addressing

/// What a container is asked to map: the IOVA, the GPA behind it, and where this process sees that
/// GPA, which is the address the kernel pins.
public struct MapRequest: Hashable, Sendable, CustomStringConvertible {
  public let iova: IOVARange
  public let gpaFirst: GPA
  /// Nil when guest memory is not mapped in this process, as in a replay.
  public let hvaFirst: HVA?
  public let permissions: Permissions

  public init(iova: IOVARange, gpaFirst: GPA, hvaFirst: HVA?, permissions: Permissions) {
    self.iova = iova
    self.gpaFirst = gpaFirst
    self.hvaFirst = hvaFirst
    self.permissions = permissions
  }

  public var description: String { "IOVA \(iova) -> GPA \(gpaFirst) \(permissions)" }
}
