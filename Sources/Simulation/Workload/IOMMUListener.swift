public import Addressing

/// What takes a guest's IOMMU events: a tracker, or a table.
public protocol IOMMUListener: AnyObject, Sendable {
  func map(_ iova: IOVARange, to gpa: GPA, permissions: Permissions) throws(IOMMURefusal)
  /// Removes everything mapped in the range; nothing mapped is no error.
  func unmap(_ iova: IOVARange) throws(IOMMURefusal)
  /// Called with nothing mapped.
  func setPassThrough(_ isOn: Bool) throws(IOMMURefusal)
}

/// An event that was not applied.
public struct IOMMURefusal: Error, Hashable, Sendable, CustomStringConvertible {
  public let event: IOMMUEvent
  /// In the listener's words.
  public let reason: String

  public init(event: IOMMUEvent, reason: String) {
    self.event = event
    self.reason = reason
  }

  public var description: String { "\(event) was not applied: \(reason)" }
}
