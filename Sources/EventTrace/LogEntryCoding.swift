import Addressing
import GuestDirtyLog
import Snapshot

// The journal of the dirty log, in events.

extension PayloadWriter {
  mutating func encode(_ entry: DirtyLogEntry) -> EventSlot {
    switch entry {
    case .regionAdded(let region): return slot(.logRegionAdded, region)
    case .regionRemoved(let gpa): return EventSlot(.logRegionRemoved, gpa.rawValue)
    case .consumerAdded(let consumer, let name, let fills):
      return named(.consumerAdded, name, flags: fills ? 1 : 0, Self.number(consumer))
    case .shareAdded(let consumer, let gpa):
      return EventSlot(.shareAdded, Self.number(consumer), gpa.rawValue)
    case .othersKept(let consumer, let gpa, let blocks):
      integer(Self.number(blocks.upperBound))
      return EventSlot(
        .othersKept, Self.number(consumer), gpa.rawValue, Self.number(blocks.lowerBound))
    case .consumerRemoved(let consumer):
      return EventSlot(.consumerRemoved, Self.number(consumer))
    case .marked(let source, let runs): return marked(source, runs)
    case .taken(let consumer, let harvest, let runs):
      ranges(runs)
      return EventSlot(.taken, Self.number(consumer), harvest)
    case .departed(let consumer, let harvest, let pageCount):
      return EventSlot(.harvestDeparted, Self.number(consumer), harvest, pageCount)
    case .delivered(let consumer, let harvest):
      return EventSlot(.delivered, Self.number(consumer), harvest)
    case .putBack(let consumer, let harvest):
      return EventSlot(.putBack, Self.number(consumer), harvest)
    case .allMarkedDirty(let reason): return named(.allMarkedDirty, reason)
    case .allDirtyReset: return EventSlot(.allDirtyReset)
    }
  }

  /// One range lies in the slot, more of them in the payload. Flags: the source.
  private mutating func marked(_ source: DirtySource, _ runs: [GPARange]) -> EventSlot {
    let (code, container) = source.traced
    if runs.count == 1 {
      return EventSlot(
        .marked, flags: code, container: container, runs[0].first.rawValue,
        runs[0].last.rawValue)
    }
    ranges(runs)
    return EventSlot(.marked, flags: code | SourceCode.manyRuns, container: container)
  }

  private static func number(_ value: Int) -> UInt64 { UInt64(max(0, value)) }
}

extension PayloadReader {
  mutating func logEntry(
    _ kind: EventKind, _ slot: EventSlot
  ) throws(PayloadFault) -> DirtyLogEntry {
    switch kind {
    case .logRegionAdded: return .regionAdded(try region(try gpa(slot)))
    case .logRegionRemoved: return .regionRemoved(at: GPA(slot.first))
    case .consumerAdded:
      return .consumerAdded(
        consumer: try Self.number(slot.first), name: try string(), fills: try Self.isSet(slot))
    case .shareAdded:
      return .shareAdded(consumer: try Self.number(slot.first), region: GPA(slot.second))
    case .othersKept:
      let (first, end) = (try Self.number(slot.third), try Self.number(try integer()))
      guard first <= end else { throw .outOfRange }
      return .othersKept(
        except: try Self.number(slot.first), region: GPA(slot.second), blocks: first..<end)
    case .consumerRemoved: return .consumerRemoved(consumer: try Self.number(slot.first))
    case .marked: return try marked(slot)
    case .taken:
      return .taken(
        consumer: try Self.number(slot.first), harvest: slot.second, try ranges(GPA.self))
    case .harvestDeparted:
      return .departed(
        consumer: try Self.number(slot.first), harvest: slot.second, pageCount: slot.third)
    case .delivered:
      return .delivered(consumer: try Self.number(slot.first), harvest: slot.second)
    case .putBack: return .putBack(consumer: try Self.number(slot.first), harvest: slot.second)
    case .allMarkedDirty: return .allMarkedDirty(because: try string())
    case .allDirtyReset: return .allDirtyReset
    default: throw .outOfRange
    }
  }

  private mutating func marked(_ slot: EventSlot) throws(PayloadFault) -> DirtyLogEntry {
    guard let source = DirtySource(traced: slot.flags & ~SourceCode.manyRuns, slot.container)
    else { throw .outOfRange }
    if slot.flags & SourceCode.manyRuns != 0 {
      return .marked(by: source, try ranges(GPA.self))
    }
    return .marked(by: source, [try gpa(slot)])
  }

  private static func number(_ value: UInt64) throws(PayloadFault) -> Int {
    guard let number = Int(exactly: value) else { throw .outOfRange }
    return number
  }
}

private enum SourceCode {
  static let vcpu: UInt8 = 1
  static let deviceQuery: UInt8 = 2
  static let unmap: UInt8 = 3
  static let conservative: UInt8 = 4
  static let conservativeOfContainer: UInt8 = 5
  static let putBack: UInt8 = 6
  static let manyRuns: UInt8 = 0x80
}

extension DirtySource {
  fileprivate var traced: (code: UInt8, container: UInt16) {
    switch self {
    case .vcpu: (SourceCode.vcpu, 0)
    case .deviceQuery(let container): (SourceCode.deviceQuery, container.rawValue)
    case .unmap(let container): (SourceCode.unmap, container.rawValue)
    case .conservative(nil): (SourceCode.conservative, 0)
    case .conservative(let container?):
      (SourceCode.conservativeOfContainer, container.rawValue)
    case .putBack: (SourceCode.putBack, 0)
    }
  }

  fileprivate init?(traced code: UInt8, _ container: UInt16) {
    switch code {
    case SourceCode.vcpu: self = .vcpu
    case SourceCode.deviceQuery: self = .deviceQuery(ContainerID(container))
    case SourceCode.unmap: self = .unmap(ContainerID(container))
    case SourceCode.conservative: self = .conservative(nil)
    case SourceCode.conservativeOfContainer: self = .conservative(ContainerID(container))
    case SourceCode.putBack: self = .putBack
    default: return nil
    }
  }
}
