import Addressing
import DMAContainer
import GuestDirtyLog
import IOVAMapping
import Locking

extension DirtyTracker {
  /// A number over the whole state: RAM, tables, logs of the containers, and the dirty log with its
  /// readers and what is held back. Equal after a replay of all that happened.
  public func stateDigest() -> UInt64 {
    var digest = StateDigest()
    for region in settings.memory.regions {
      digest.add(region.gpa)
      digest.add(region.isReadOnly ? 1 : 0)
    }
    for range in settings.memory.discarded { digest.add(range) }
    for tracked in liveContainers {
      digest.add(UInt64(tracked.id.rawValue))
      tracked.operation.withStep { (state: inout ContainerState) in state.add(to: &digest) }
    }
    digest.add(log.stateDigest())
    return digest.value
  }
}

/// FNV-1a over 64-bit words, with a final mix.
struct StateDigest {
  private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

  mutating func add(_ word: UInt64) {
    value = (value ^ word) &* 0x100_0000_01b3
    value ^= value &>> 29
  }

  mutating func add<A>(_ range: AddressRange<A>) {
    add(range.first.rawValue)
    add(range.last.rawValue)
  }
}

extension ContainerState {
  fileprivate func add(to digest: inout StateDigest) {
    digest.add(UInt64(addressSpace.rawValue))
    digest.add(isTracking ? 1 : 0)
    digest.add(hasPartialUnmap ? 1 : 0)
    for log in logs {
      digest.add(log.mode == .logging ? 1 : log.mode == .everythingMapped ? 3 : 2)
      digest.add(UInt64(log.restartWait))
      for range in log.ranges { digest.add(range) }
      for range in log.refused { digest.add(range) }
    }
    for range in owed.ranges { digest.add(range) }
    digest.add(course == nil ? 0 : 1)
    digest.add(unknownMappings == nil ? 0 : 1)
    context.book.withLock { (book: inout ContainerBook) in
      digest.add(book.table.generation.rawValue)
      digest.add(UInt64(book.table.count))
      book.table.forEach(in: .wholeSpace) { mapping in
        digest.add(mapping.iova)
        digest.add(mapping.gpaFirst.rawValue)
        digest.add(UInt64(mapping.permissions.rawValue))
        digest.add(mapping.generation.rawValue)
      }
    }
  }
}
