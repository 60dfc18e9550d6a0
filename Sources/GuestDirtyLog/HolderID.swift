import Locking

/// Who holds pages back: one container of one tracker.
///
/// The log hands them out, each once. Containers are numbered from 0 by every tracker, so a number
/// alone would let one tracker release or drop what another one, on the same log, holds back.
public struct HolderID: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// Whose pages are marked for which there is no memory to hold them back.
  public let container: ContainerID
  let number: UInt64

  public static func < (left: HolderID, right: HolderID) -> Bool { left.number < right.number }

  public var description: String { "holder \(number), \(container)" }
}

extension GuestDirtyLog {
  /// A name under which pages of the container are held back: asked for once, when it is added.
  /// Holders of one log are ordered as they were made.
  public func makeHolder(for container: ContainerID) -> HolderID {
    directory.withLock { directory in
      directory.holderCount &+= 1
      return HolderID(container: container, number: directory.holderCount)
    }
  }
}
