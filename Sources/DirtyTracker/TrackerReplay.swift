import Addressing
import DMAContainer
public import EventTrace
public import GuestDirtyLog
import IOVAMapping
import PageBitmap

/// Drives a fresh tracker with recorded events; its containers give the recorded answers.
///
/// The result has the state the record was taken from, where the record goes back to the tracker's
/// making, nothing of it was dropped, and the log's readers went by way of the tracker.
public struct TrackerReplay {
  public let tracker: DirtyTracker
  /// Where the replay went another way than the record, a sentence each.
  public private(set) var divergences: [String] = []
  private var containers: [UInt16: RecordedContainer] = [:]
  private var readers = ReplayReaders()
  private let answers = RecordedAnswers()
  private var isInTransaction = false

  /// - Parameter log: an empty log, without regions, of the page size the trace has.
  public static func replay(
    _ events: [TrackerEvent], into log: GuestDirtyLog
  ) -> TrackerReplay {
    var replay = TrackerReplay(events.first, log)
    var index = 0
    while index < events.count {
      let event = events[index]
      index += 1
      var answers: [BackendAnswer] = []
      while index < events.count, case .answered(let answer) = events[index] {
        answers.append(answer)
        index += 1
      }
      replay.answers.load(answers)
      replay.apply(event)
      if let rest = replay.answers.unused {
        replay.divergences.append("\(event): nobody asked for the answer \(rest)")
      }
    }
    return replay
  }

  /// The same from a trace file, which has to go back to the making of the tracker. One that is cut
  /// or damaged gives the state as of its last sound event.
  /// - Throws: ``TraceRefusal``.
  public static func replay(_ trace: TraceReader) throws(TraceRefusal) -> TrackerReplay {
    guard trace.firstSequence == 0 else { throw .eventsMissing(trace.firstSequence) }
    guard case .trackerMade(let configuration)? = trace.events.first?.event else {
      throw .noBeginning
    }
    return replay(
      trace.events.map(\.event), into: GuestDirtyLog(pageSize: configuration.pageSize))
  }

  private init(_ first: TrackerEvent?, _ log: GuestDirtyLog) {
    var policy = TrackerPolicy()
    var omitting: Set<TrackerOmission> = []
    if case .trackerMade(let configuration)? = first {
      policy.pageSize = configuration.pageSize
      policy.pinnedPages = configuration.sendsPinnedEveryRound ? .everyRound : .stopAndCopy
      policy.twoStepUnmap = configuration.trustsGuest ? .trustGuest : .markMapping
      policy.rearmPageCount = configuration.rearmPageCount
      for (bit, omission) in TrackerOmission.allCases.enumerated()
      where configuration.omissionMask & (1 << UInt8(bit)) != 0 {
        omitting.insert(omission)
      }
    }
    tracker = DirtyTracker(log: log, policy: policy, omitting: omitting)
    if case .trackerMade? = first {
    } else {
      divergences.append("the record does not go back to the making of the tracker")
    }
  }

  /// Refusals are part of the record: what was refused then is refused now.
  private mutating func apply(_ event: TrackerEvent) {
    switch event {
    case .containerAdded(let number, let container): add(number, container)
    case .containerRemoved(let number): try? tracker.removeContainer(ContainerID(number))
    case .attachmentChanged(let number, let container):
      containers[number]?.attach(container)
      try? tracker.attachmentChanged(ContainerID(number))
    case .addressSpaceSwitched(let number, let isIdentity):
      try? tracker.switchAddressSpace(ContainerID(number), to: isIdentity ? .identity : .remapped)
    case .mapped(let number, let iova, let gpa, let permissions):
      try? tracker.iommuMap(ContainerID(number), iova, to: gpa, permissions: permissions)
    case .unmapped(let number, let iova): try? tracker.iommuUnmap(ContainerID(number), iova)
    case .unmappedByVMM(let number, let iova, let answer): unmapped(number, iova, answer)
    case .translationsReplayed(let number, let mappings):
      try? tracker.iommuReplay(ContainerID(number), mappings)
    case .deviceWrote(let number, let iova, let generation):
      tracker.deviceWrote(ContainerID(number), iova, since: generation)
    case .vcpuWrote(let range): tracker.vcpuWrote(range)
    case .vcpuCollected(let ranges, let failure):
      for range in ranges { tracker.vcpuWrote(range) }
      if failure != nil { tracker.log.markEverything(by: .conservative(nil)) }
    case .synced(let isFinal): _ = tracker.sync(isFinal: isFinal)
    default: applyToListener(event)
    }
  }

  private mutating func applyToListener(_ event: TrackerEvent) {
    switch event {
    case .transactionBegan, .transactionCommitted: transaction(begins: event == .transactionBegan)
    case .regionAdded(let region): try? tracker.regionAdded(RAMRegion(region))
    case .regionRemoved(let region): try? tracker.regionRemoved(RAMRegion(region))
    case .regionUnchanged(let region): tracker.regionUnchanged(RAMRegion(region))
    case .globalLogStarted: _ = tracker.startTracking()
    case .globalLogStopped: _ = tracker.stopTracking()
    case .logStarted(let region): tracker.logStart(RAMRegion(region))
    case .logStopped(let region): tracker.logStop(RAMRegion(region))
    case .logSynced(let range): _ = tracker.logSync(range)
    case .logCleared(let range): tracker.logClear(range)
    case .ramDiscarded(let range): try? tracker.ramDiscarded(range)
    case .ramPopulated(let range): try? tracker.ramPopulated(range)
    default:
      if let divergence = readers.apply(event, to: tracker) { divergences.append(divergence) }
    }
  }

  /// One that never began, or began twice, is the caller's bug in a tracker, and a record's here.
  private mutating func transaction(begins: Bool) {
    guard begins != isInTransaction else {
      divergences.append("a transaction \(begins ? "began inside another" : "ended, unbegun")")
      return
    }
    isInTransaction = begins
    if begins { tracker.begin() } else { try? tracker.commit() }
  }

  private mutating func add(_ number: UInt16, _ container: TraceContainer) {
    let recorded = RecordedContainer(number, container, answers)
    containers[number] = recorded
    let id = try? tracker.addContainer(
      recorded, ownership: container.isOwnedByVMM ? .vmm : .tracker,
      addressSpace: container.isIdentity ? .identity : .remapped)
    if let id, id.rawValue != number {
      divergences.append("container \(container.name) was number \(number) and is \(id) now")
    }
  }

  private func unmapped(_ number: UInt16, _ iova: IOVARange, _ answer: UnmapAnswer?) {
    let id = ContainerID(number)
    // Whatever its page size was, in pages of 4 KiB the dirt is the same.
    guard let answer, let bitmap = Self.bitmap(answer) else {
      try? tracker.iommuUnmapped(id, iova)
      return
    }
    try? tracker.iommuUnmapped(id, iova, dirty: bitmap)
  }

  /// Nil past what one query may take.
  private static func bitmap(_ answer: UnmapAnswer) -> QueryBitmap? {
    let window = answer.window.expanded(to: .fourKiB)
    guard let bytes = QueryBitmap.byteCount(window: window, pageSize: .fourKiB),
      bytes <= Int(Limits.queryBitmapByteCountMax),
      var bitmap = try? QueryBitmap(byteCountMax: max(8, bytes)),
      (try? bitmap.reset(window: window, pageSize: .fourKiB)) != nil
    else { return nil }
    for run in answer.dirty { bitmap.insert(run) }
    return bitmap
  }
}

extension RAMRegion {
  init(_ region: TraceRegion) {
    self.init(
      name: region.name, gpa: region.gpa, hvaFirst: region.hvaFirst, node: region.node,
      isReadOnly: region.isReadOnly)
  }
}
