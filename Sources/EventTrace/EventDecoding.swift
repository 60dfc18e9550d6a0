import Addressing
import Snapshot

extension PayloadReader {
  /// The event of a slot; this reader stands at its payload and is read to its end.
  mutating func decode(_ slot: EventSlot) throws(PayloadFault) -> TrackerEvent {
    guard let kind = EventKind(rawValue: slot.kind) else { throw .outOfRange }
    let event = try decode(kind, slot)
    guard remaining == 0 else { throw .outOfRange }
    return event
  }

  private mutating func decode(
    _ kind: EventKind, _ slot: EventSlot
  ) throws(PayloadFault) -> TrackerEvent {
    let container = slot.container
    switch kind {
    case .mapped: return try mapped(slot)
    case .unmapped: return .unmapped(container: container, iova: try iova(slot))
    case .unmappedByVMM:
      let answer = try Self.isSet(slot) ? try unmapAnswer() : nil
      return .unmappedByVMM(container: container, iova: try iova(slot), answer: answer)
    case .addressSpaceSwitched:
      return .addressSpaceSwitched(container: container, isIdentity: try Self.isSet(slot))
    case .deviceWrote:
      return .deviceWrote(
        container: container, iova: try iova(slot),
        since: try Self.isSet(slot) ? Generation(slot.third) : nil)
    case .synced: return .synced(isFinal: try Self.isSet(slot))
    case .answered: return .answered(try answer(slot))
    case .trackerMade: return .trackerMade(try configuration(slot))
    case .containerAdded: return .containerAdded(container: container, try self.container())
    case .containerRemoved: return .containerRemoved(container: container)
    case .attachmentChanged:
      return .attachmentChanged(container: container, try self.container())
    default: return try decodeCourse(kind, slot)
    }
  }

  private mutating func decodeCourse(
    _ kind: EventKind, _ slot: EventSlot
  ) throws(PayloadFault) -> TrackerEvent {
    let container = slot.container
    switch kind {
    case .startBegan: return .startBegan(container: container, paysOwed: try Self.isSet(slot))
    case .syncBegan:
      guard slot.flags & ~SyncFlag.all == 0 else { throw .outOfRange }
      return .syncBegan(
        container: container, range: try iova(slot),
        isFinal: slot.flags & SyncFlag.isFinal != 0, asks: slot.flags & SyncFlag.asks != 0)
    case .stopBegan:
      guard slot.flags & ~StopFlag.all == 0 else { throw .outOfRange }
      return .stopBegan(
        container: container,
        TraceStop(
          marksForReaders: slot.flags & StopFlag.marksForReaders != 0,
          isRemoval: slot.flags & StopFlag.isRemoval != 0))
    case .stepped:
      return .stepped(
        container: container, windowByteCountMax: slot.first, mappingCountMax: slot.second,
        pageCountMax: slot.third)
    case .courseEnded: return .courseEnded(container: container)
    default: return try decodeListener(kind, slot)
    }
  }

  private mutating func decodeListener(
    _ kind: EventKind, _ slot: EventSlot
  ) throws(PayloadFault) -> TrackerEvent {
    switch kind {
    case .transactionBegan: return .transactionBegan
    case .transactionCommitted: return .transactionCommitted
    case .regionAdded: return .regionAdded(try region(try gpa(slot)))
    case .regionRemoved: return .regionRemoved(try region(try gpa(slot)))
    case .regionUnchanged: return .regionUnchanged(try region(try gpa(slot)))
    case .globalLogStarted: return .globalLogStarted
    case .globalLogStopped: return .globalLogStopped
    case .logStarted: return .logStarted(try region(try gpa(slot)))
    case .logStopped: return .logStopped(try region(try gpa(slot)))
    case .logSynced: return .logSynced(try Self.isSet(slot) ? try gpa(slot) : nil)
    case .logCleared: return .logCleared(try gpa(slot))
    case .ramDiscarded: return .ramDiscarded(try gpa(slot))
    case .ramPopulated: return .ramPopulated(try gpa(slot))
    case .ramAdded: return .ramAdded(try region(try gpa(slot)))
    case .ramRemoved: return .ramRemoved(try region(try gpa(slot)))
    case .ramGone: return .ramGone(container: slot.container, try gpa(slot))
    default: return .log(try logEntry(kind, slot))
    }
  }

  private mutating func unmapAnswer() throws(PayloadFault) -> UnmapAnswer {
    let window: IOVARange = try sizedRange()
    guard let pageSize = PageSize(bytes: try integer()) else { throw .outOfRange }
    return UnmapAnswer(window: window, pageSize: pageSize, dirty: try ranges(IOVA.self))
  }

  func iova(_ slot: EventSlot) throws(PayloadFault) -> IOVARange {
    try Self.range(slot.first, slot.second)
  }

  func gpa(_ slot: EventSlot) throws(PayloadFault) -> GPARange {
    try Self.range(slot.first, slot.second)
  }

  static func isSet(_ slot: EventSlot) throws(PayloadFault) -> Bool {
    guard slot.flags <= 1 else { throw .outOfRange }
    return slot.flags == 1
  }

  /// As it was told: the tracker may have refused it, and replay lets it refuse again.
  private func mapped(_ slot: EventSlot) throws(PayloadFault) -> TrackerEvent {
    .mapped(
      container: slot.container, iova: try iova(slot), gpaFirst: GPA(slot.third),
      permissions: Permissions(rawValue: slot.flags & ~MappedFlag.isAhead),
      isAhead: slot.flags & MappedFlag.isAhead != 0)
  }

  private mutating func configuration(_ slot: EventSlot) throws(PayloadFault) -> TraceConfiguration
  {
    guard let pageSize = PageSize(bytes: slot.first), let mask = UInt8(exactly: slot.second),
      slot.flags & ~ConfigurationFlag.all == 0
    else { throw .outOfRange }
    return TraceConfiguration(
      pageSize: pageSize,
      sendsPinnedEveryRound: slot.flags & ConfigurationFlag.sendsPinnedEveryRound != 0,
      omissionMask: mask, trustsGuest: slot.flags & ConfigurationFlag.trustsGuest != 0,
      rearmPageCount: slot.third, identityMappingByteCountMax: try integer())
  }

  private mutating func answer(_ slot: EventSlot) throws(PayloadFault) -> BackendAnswer {
    guard let call = BackendAnswer.Call(rawValue: slot.flags & AnswerFlag.call) else {
      throw .outOfRange
    }
    var answer = BackendAnswer(
      container: slot.container, call: call, unmappedByteCount: slot.third,
      cleanCallCountBefore: try integer())
    if slot.flags & AnswerFlag.range != 0 { answer.range = try iova(slot) }
    if slot.flags & AnswerFlag.log != 0 {
      guard let log = UInt16(exactly: try integer()) else { throw .outOfRange }
      answer.log = log
    }
    if slot.flags & AnswerFlag.dirty != 0 { answer.dirty = try ranges(IOVA.self) }
    if slot.flags & AnswerFlag.failure != 0 {
      answer.failure = try failure()
      guard answer.failure != nil else { throw .outOfRange }
    }
    return answer
  }
}
