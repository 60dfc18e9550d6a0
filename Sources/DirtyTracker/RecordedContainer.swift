import Addressing
import DMAContainer
import EventTrace
import IOVAMapping
import PageBitmap
import Locking

/// The answers that belong to the event being replayed, in the order they were given.
final class RecordedAnswers: Sendable {
  private let pending = Mutex<[BackendAnswer]>([])

  /// In the order they were given.
  func load(_ answers: [BackendAnswer]) { pending.withLock { $0 = answers.reversed() } }

  var unused: BackendAnswer? { pending.withLock { $0.last } }

  /// The answer to this call, if it is the next one. A call without an answer succeeded, and
  /// reported nothing.
  func take(
    _ container: UInt16, _ log: UInt16?, _ call: BackendAnswer.Call, _ range: IOVARange?
  ) -> BackendAnswer? {
    pending.withLock { pending in
      guard let next = pending.last, next.container == container, next.log == log,
        next.call == call, next.range == range
      else { return nil }
      return pending.removeLast()
    }
  }
}

/// A container that answers what was recorded.
final class RecordedContainer: DMAContainer {
  let number: UInt16
  let name: String
  private let answers: RecordedAnswers
  private let state: Mutex<State>

  private struct State: Sendable {
    var capabilities: ContainerCapabilities
    var logs: [RecordedLog]
  }

  init(_ number: UInt16, _ container: TraceContainer, _ answers: RecordedAnswers) {
    self.number = number
    self.name = container.name
    self.answers = answers
    state = Mutex(
      State(
        capabilities: ContainerCapabilities(container),
        logs: container.logs.enumerated().map {
          RecordedLog(number, UInt16(truncatingIfNeeded: $0.offset), $0.element, answers)
        }))
  }

  var capabilities: ContainerCapabilities { state.withLock { $0.capabilities } }
  var dirtyLogs: [any DirtyLog] { state.withLock { $0.logs.map { $0 as any DirtyLog } } }

  /// Its devices are others now. A log of the same name is the same log,
  /// perhaps in another place and able to do other things.
  func attach(_ traced: TraceContainer) {
    state.withLock { state in
      state.capabilities = ContainerCapabilities(traced)
      let old = state.logs
      state.logs = traced.logs.enumerated().map { place, log in
        let index = UInt16(truncatingIfNeeded: place)
        guard let same = old.first(where: { $0.name == log.name }) else {
          return RecordedLog(number, index, log, answers)
        }
        same.become(log, at: index)
        return same
      }
    }
  }

  func map(_ request: MapRequest) throws(ContainerError) {
    try Self.check(answers.take(number, nil, .map, request.iova), .map, name)
  }

  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    let answer = answers.take(number, nil, .unmap, range)
    try Self.check(answer, .unmap, name)
    return answer?.unmappedByteCount ?? range.byteCount ?? UInt64.max
  }

  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    let answer = answers.take(number, nil, .unmapWithDirty, dirty.window)
    try Self.check(answer, .unmapWithDirty, name)
    for run in answer?.dirty ?? [] { dirty.insert(run) }
    return dirty.window?.byteCount ?? 0
  }

  static func check(
    _ answer: BackendAnswer?, _ operation: ContainerError.Operation, _ name: String
  ) throws(ContainerError) {
    guard let failure = answer?.failure else { return }
    throw ContainerError(
      operation, object: name, range: answer?.range, errno: failure.errno, detail: failure.detail,
      isPartial: failure.isPartial)
  }
}

extension ContainerCapabilities {
  fileprivate init(_ container: TraceContainer) {
    self.init(
      pageSizes: container.pageSizes,
      bisectPolicy: container.splitsMappings ? .split : .refuse,
      mappingCountMax: container.mappingCountMax, validRanges: container.validRanges,
      hasAtomicUnmap: container.hasAtomicUnmap,
      unmapBitmapByteCountMax: container.unmapBitmapByteCountMax)
  }
}

/// A dirty log that answers what was recorded.
final class RecordedLog: DirtyLog {
  let name: String
  private let container: UInt16
  private let state: Mutex<State>
  private let answers: RecordedAnswers

  private struct State: Sendable {
    var place: UInt16
    var capabilities: DirtyLogCapabilities
  }

  init(_ container: UInt16, _ place: UInt16, _ log: TraceLog, _ answers: RecordedAnswers) {
    self.container = container
    state = Mutex(State(place: place, capabilities: DirtyLogCapabilities(log)))
    self.answers = answers
    name = log.name
  }

  var capabilities: DirtyLogCapabilities { state.withLock { $0.capabilities } }

  func become(_ log: TraceLog, at place: UInt16) {
    state.withLock { $0 = State(place: place, capabilities: DirtyLogCapabilities(log)) }
  }

  private func take(_ call: BackendAnswer.Call, _ range: IOVARange?) -> BackendAnswer? {
    answers.take(container, state.withLock { $0.place }, call, range)
  }

  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    try RecordedContainer.check(take(.startLog, nil), .startLog, name)
  }

  func stop() throws(ContainerError) {
    try RecordedContainer.check(take(.stopLog, nil), .stopLog, name)
  }

  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    let answer = take(.query, bitmap.window)
    try RecordedContainer.check(answer, .query, name)
    for run in answer?.dirty ?? [] { bitmap.insert(run) }
  }
}

extension DirtyLogCapabilities {
  fileprivate init(_ log: TraceLog) {
    self.init(
      scope: DirtyScope(rawValue: log.scope) ?? .everythingMapped, pageSizes: log.pageSizes,
      queryBitmapByteCountMax: log.queryBitmapByteCountMax, mayCrossHoles: log.mayCrossHoles,
      mayCutMapping: log.mayCutMapping, canPeek: log.canPeek, rangeCountMax: log.rangeCountMax,
      isAskedAfterUnmap: log.isAskedAfterUnmap)
  }
}
