import Addressing
import GuestDirtyLog
import Snapshot

extension PayloadWriter {
  /// Writes what does not fit into the slot, and returns the slot without its payload's size.
  mutating func encode(_ event: TrackerEvent) -> EventSlot {
    switch event {
    case .mapped(let container, let iova, let gpaFirst, let permissions, let isAhead):
      EventSlot(
        .mapped, flags: permissions.rawValue | (isAhead ? MappedFlag.isAhead : 0),
        container: container, iova.first.rawValue, iova.last.rawValue, gpaFirst.rawValue)
    case .unmapped(let container, let iova): slot(.unmapped, iova, container)
    case .unmappedByVMM(let container, let iova, let answer): unmapped(container, iova, answer)
    case .addressSpaceSwitched(let container, let isIdentity):
      EventSlot(.addressSpaceSwitched, flags: isIdentity ? 1 : 0, container: container)
    case .deviceWrote(let container, let iova, let generation):
      EventSlot(
        .deviceWrote, flags: generation == nil ? 0 : 1, container: container,
        iova.first.rawValue, iova.last.rawValue, generation?.rawValue ?? 0)
    case .synced(let isFinal): EventSlot(.synced, flags: isFinal ? 1 : 0)
    case .answered(let answer): encode(answer)
    case .log(let entry): encode(entry)
    case .trackerMade(let configuration): made(configuration)
    case .containerAdded(let container, let description): added(container, description)
    case .containerRemoved(let container): EventSlot(.containerRemoved, container: container)
    case .attachmentChanged(let container, let description): attached(container, description)
    default: encodeCourse(event)
    }
  }

  private mutating func encodeCourse(_ event: TrackerEvent) -> EventSlot {
    switch event {
    case .startBegan(let container, let paysOwed):
      EventSlot(.startBegan, flags: paysOwed ? 1 : 0, container: container)
    case .syncBegan(let container, let range, let isFinal, let asks):
      EventSlot(
        .syncBegan, flags: (isFinal ? SyncFlag.isFinal : 0) | (asks ? SyncFlag.asks : 0),
        container: container, range.first.rawValue, range.last.rawValue)
    case .stopBegan(let container, let stop):
      EventSlot(
        .stopBegan,
        flags: (stop.marksForReaders ? StopFlag.marksForReaders : 0)
          | (stop.isRemoval ? StopFlag.isRemoval : 0), container: container)
    case .stepped(let container, let window, let mappings, let pages):
      EventSlot(.stepped, container: container, window, mappings, pages)
    case .courseEnded(let container): EventSlot(.courseEnded, container: container)
    default: encodeListener(event)
    }
  }

  private mutating func encodeListener(_ event: TrackerEvent) -> EventSlot {
    switch event {
    case .transactionBegan: EventSlot(.transactionBegan)
    case .transactionCommitted: EventSlot(.transactionCommitted)
    case .regionAdded(let region): slot(.regionAdded, region)
    case .regionRemoved(let region): slot(.regionRemoved, region)
    case .regionUnchanged(let region): slot(.regionUnchanged, region)
    case .globalLogStarted: EventSlot(.globalLogStarted)
    case .globalLogStopped: EventSlot(.globalLogStopped)
    case .logStarted(let region): slot(.logStarted, region)
    case .logStopped(let region): slot(.logStopped, region)
    case .logSynced(let range):
      range.map { EventSlot(.logSynced, flags: 1, $0.first.rawValue, $0.last.rawValue) }
        ?? EventSlot(.logSynced)
    case .logCleared(let range): slot(.logCleared, range)
    case .ramDiscarded(let range): slot(.ramDiscarded, range)
    case .ramPopulated(let range): slot(.ramPopulated, range)
    case .ramAdded(let region): slot(.ramAdded, region)
    case .ramRemoved(let region): slot(.ramRemoved, region)
    case .ramGone(let container, let range): slot(.ramGone, range, container)
    default: preconditionFailure("an event that no encoder knows")
    }
  }

  func slot<A: Address>(
    _ kind: EventKind, _ range: AddressRange<A>, _ container: UInt16 = 0
  ) -> EventSlot {
    EventSlot(kind, container: container, range.first.rawValue, range.last.rawValue)
  }

  mutating func slot(_ kind: EventKind, _ region: RAMRegion) -> EventSlot {
    self.region(region)
    return slot(kind, region.gpa)
  }

  mutating func named(
    _ kind: EventKind, _ text: String, flags: UInt8 = 0, _ first: UInt64 = 0
  ) -> EventSlot {
    string(text)
    return EventSlot(kind, flags: flags, first)
  }

  private mutating func unmapped(
    _ container: UInt16, _ iova: IOVARange, _ answer: UnmapAnswer?
  ) -> EventSlot {
    if let answer {
      integer(answer.window.first.rawValue)
      integer(answer.window.lastOffset)
      integer(answer.pageSize.bytes)
      ranges(answer.dirty)
    }
    return EventSlot(
      .unmappedByVMM, flags: answer == nil ? 0 : 1, container: container, iova.first.rawValue,
      iova.last.rawValue)
  }

  private mutating func added(_ id: UInt16, _ description: TraceContainer) -> EventSlot {
    container(description)
    return EventSlot(.containerAdded, container: id)
  }

  private mutating func attached(_ id: UInt16, _ description: TraceContainer) -> EventSlot {
    container(description)
    return EventSlot(.attachmentChanged, container: id)
  }

  private mutating func made(_ configuration: TraceConfiguration) -> EventSlot {
    integer(configuration.identityMappingByteCountMax)
    var flags: UInt8 = 0
    if configuration.sendsPinnedEveryRound { flags |= ConfigurationFlag.sendsPinnedEveryRound }
    if configuration.trustsGuest { flags |= ConfigurationFlag.trustsGuest }
    return EventSlot(
      .trackerMade, flags: flags, configuration.pageSize.bytes,
      UInt64(configuration.omissionMask), configuration.rearmPageCount)
  }

  /// Flags: the call in the low 4 bits, then whether there is a range, a log, dirt and a failure.
  private mutating func encode(_ answer: BackendAnswer) -> EventSlot {
    integer(answer.cleanCallCountBefore)
    var flags = answer.call.rawValue
    if answer.range != nil { flags |= AnswerFlag.range }
    if let log = answer.log {
      flags |= AnswerFlag.log
      integer(UInt64(log))
    }
    if !answer.dirty.isEmpty {
      flags |= AnswerFlag.dirty
      ranges(answer.dirty)
    }
    if let failure = answer.failure {
      flags |= AnswerFlag.failure
      self.failure(failure)
    }
    return EventSlot(
      .answered, flags: flags, container: answer.container, answer.range?.first.rawValue ?? 0,
      answer.range?.last.rawValue ?? 0, answer.unmappedByteCount)
  }
}

enum ConfigurationFlag {
  static let sendsPinnedEveryRound: UInt8 = 1
  static let trustsGuest: UInt8 = 2
  static let all: UInt8 = 3
}

enum MappedFlag {
  static let isAhead: UInt8 = 0x80
}

enum StopFlag {
  static let marksForReaders: UInt8 = 1
  static let isRemoval: UInt8 = 2
  static let all: UInt8 = 3
}

enum SyncFlag {
  static let isFinal: UInt8 = 1
  static let asks: UInt8 = 2
  static let all: UInt8 = 3
}

enum AnswerFlag {
  static let call: UInt8 = 0x0f
  static let range: UInt8 = 0x10
  static let log: UInt8 = 0x20
  static let dirty: UInt8 = 0x40
  static let failure: UInt8 = 0x80
}
