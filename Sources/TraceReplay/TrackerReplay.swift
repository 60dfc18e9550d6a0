import Addressing
import DMAContainer
public import DirtyTracker
public import EventTrace
public import GuestDirtyLog
public import Snapshot

/// Drives a fresh tracker and its log with recorded events; its containers give the recorded
/// answers.
///
/// Events are taken one after the other. An operation is done at its event, with the answers that
/// its backend gave to it, which may lie behind events of other containers. Entries of the log's
/// journal are done to the log.
///
/// The result has the state the record was taken from, where the record goes back to the tracker's
/// making and nothing of it was dropped; but for who marked a page first, see `Docs/records/0013`.
public struct TrackerReplay {
  public let tracker: DirtyTracker
  /// Where the replay went another way than the record, a sentence each.
  public private(set) var divergences: [String] = []
  private var containers: [UInt16: RecordedContainer] = [:]
  private var harvests = ReplayedHarvests()
  private var memory: ReplayMemory

  /// From which event on each container is not part of the snapshot that the replay began with.
  private var places: [UInt16: UInt64] = [:]
  private var snapshot: TrackerSnapshot?

  /// - Parameters:
  ///   - snapshot: the state that the events complete; nil: they begin with a tracker's making.
  ///   - first: the sequence of the first event.
  ///   - log: an empty log, without regions, of the page size the trace has.
  ///   - bitmapByteCountMax: what the bitmaps of RAM and its readers may take. A region, or a
  ///     reader, that would need more is left out, which is a divergence.
  public static func replay(
    _ events: [TrackerEvent], from snapshot: TrackerSnapshot? = nil, first: UInt64 = 0,
    into log: GuestDirtyLog, bitmapByteCountMax: UInt64 = ReplayMemory.byteCountMaxDefault
  ) -> TrackerReplay {
    var replay = TrackerReplay(events.first, snapshot, log, bitmapByteCountMax)
    let answers = AnswersByEvent(events)
    for (index, event) in events.enumerated() {
      if case .answered = event { continue }
      replay.apply(event, at: first &+ UInt64(index), answers[index])
    }
    log.finishReplay()
    return replay
  }

  /// The same from a trace file, which has to go back to the making of the tracker, or to have a
  /// snapshot. One that is cut or damaged gives the state as of its last sound event.
  /// - Throws: ``TraceRefusal``.
  public static func replay(
    _ trace: TraceReader, bitmapByteCountMax: UInt64 = ReplayMemory.byteCountMaxDefault
  ) throws(TraceRefusal) -> TrackerReplay {
    if let snapshot = trace.usableSnapshot {
      let events = trace.events.drop { $0.sequence < snapshot.firstSequence }
      return replay(
        events.map(\.event), from: snapshot, first: snapshot.firstSequence,
        into: GuestDirtyLog(pageSize: snapshot.configuration.pageSize),
        bitmapByteCountMax: bitmapByteCountMax)
    }
    guard trace.firstSequence == 0 else { throw .eventsMissing(trace.firstSequence) }
    guard case .trackerMade(let configuration)? = trace.events.first?.event else {
      throw .noBeginning
    }
    return replay(
      trace.events.map(\.event), into: GuestDirtyLog(pageSize: configuration.pageSize),
      bitmapByteCountMax: bitmapByteCountMax)
  }

  private init(
    _ first: TrackerEvent?, _ snapshot: TrackerSnapshot?, _ log: GuestDirtyLog,
    _ bitmapByteCountMax: UInt64
  ) {
    var made = snapshot?.configuration
    if case .trackerMade(let configuration)? = first { made = made ?? configuration }
    let policy = made.map { TrackerPolicy($0) } ?? TrackerPolicy()
    tracker = DirtyTracker(log: log, policy: policy, omitting: made?.omissions ?? [])
    memory = ReplayMemory(byteCountMax: bitmapByteCountMax, pageSize: policy.pageSize)
    if made == nil {
      divergences.append("the record does not go back to the making of the tracker")
    }
    if let snapshot { restore(snapshot) }
  }

  private mutating func restore(_ snapshot: TrackerSnapshot) {
    for region in snapshot.log.regions {
      if let refusal = memory.refusal(of: .regionAdded(region)) {
        return divergences.append(refusal)
      }
    }
    for consumer in snapshot.log.consumers {
      let entry = DirtyLogEntry.consumerAdded(
        consumer: consumer.number, name: consumer.name, fills: false)
      if let refusal = memory.refusal(of: entry) { return divergences.append(refusal) }
    }
    var restored: [UInt16: RecordedContainer] = [:]
    let failure = tracker.restore(snapshot) { copy in
      let backend = RecordedContainer(copy.container, alsoWith: copy.logs.map(\.log))
      restored[copy.number] = backend
      return (backend, backend.logsByIdentity)
    }
    if let failure { return divergences.append("the snapshot: \(failure)") }
    containers = restored
    for container in snapshot.containers { places[container.number] = container.place }
    self.snapshot = snapshot
  }

  /// Whether the snapshot has what the event did.
  private func isPast(_ event: TrackerEvent, at sequence: UInt64) -> Bool {
    guard let snapshot else { return false }
    switch event {
    case .log(let entry):
      switch entry {
      // By blocks of bits, see ``GuestDirtyLog/replay(_:_:at:)``; and what was taken is needed by
      // the departure behind it.
      case .marked, .taken: return false
      default: return sequence < snapshot.log.place.sequence
      }
    case .containerAdded: return sequence < snapshot.place
    default:
      guard let container = event.container else { return sequence < snapshot.place }
      return sequence < places[container] ?? 0
    }
  }

  private mutating func apply(
    _ event: TrackerEvent, at sequence: UInt64, _ answers: [BackendAnswer]
  ) {
    if isPast(event, at: sequence) { return }
    let place = JournalPlace(sequence)
    switch event {
    case .log(let entry):
      let divergence = memory.refusal(of: entry) ?? tracker.log.replay(entry, &harvests, at: place)
      if let divergence { divergences.append(divergence) }
    case .containerAdded(let number, let container): add(number, container)
    default:
      let recorded = event.container.flatMap { containers[$0] }
      recorded?.answers.load(answers)
      if case .attachmentChanged(_, let container) = event { recorded?.attach(container) }
      tracker.replay(event, at: place)
      if let rest = recorded?.answers.finish() { divergences.append("\(event): \(rest)") }
    }
  }

  private mutating func add(_ number: UInt16, _ container: TraceContainer) {
    let recorded = RecordedContainer(container)
    let isThere = tracker.replayContainer(
      number, recorded, ownership: container.isOwnedByVMM ? .vmm : .tracker,
      addressSpace: container.isIdentity ? .identity : .remapped)
    if isThere {
      containers[number] = recorded
    } else {
      divergences.append("container \(container.name) was number \(number), which is taken")
    }
  }
}
