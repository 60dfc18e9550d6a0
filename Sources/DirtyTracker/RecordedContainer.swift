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
  let capabilities: ContainerCapabilities
  private let answers: RecordedAnswers
  private let logs: Mutex<[RecordedLog]>

  init(_ number: UInt16, _ container: TraceContainer, _ answers: RecordedAnswers) {
    self.number = number
    self.name = container.name
    self.answers = answers
    capabilities = ContainerCapabilities(
      pageSizes: container.pageSizes,
      bisectPolicy: container.splitsMappings ? .split : .refuse,
      mappingCountMax: container.mappingCountMax, validRanges: container.validRanges,
      hasAtomicUnmap: container.hasAtomicUnmap,
      unmapBitmapByteCountMax: container.unmapBitmapByteCountMax)
    logs = Mutex(
      container.logs.enumerated().map {
        RecordedLog(number, UInt16(truncatingIfNeeded: $0.offset), $0.element, answers)
      })
  }

  var dirtyLogs: [any DirtyLog] { logs.withLock { $0.map { $0 as any DirtyLog } } }

  /// A log of the same name is the same log, perhaps in another place.
  func attach(_ traced: [TraceLog]) {
    logs.withLock { logs in
      let old = logs
      logs = traced.enumerated().map { place, log in
        let index = UInt16(truncatingIfNeeded: place)
        guard let same = old.first(where: { $0.name == log.name }) else {
          return RecordedLog(number, index, log, answers)
        }
        same.move(to: index)
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

/// A dirty log that answers what was recorded.
final class RecordedLog: DirtyLog {
  let name: String
  let capabilities: DirtyLogCapabilities
  private let container: UInt16
  private let place: Mutex<UInt16>
  private let answers: RecordedAnswers

  init(_ container: UInt16, _ place: UInt16, _ log: TraceLog, _ answers: RecordedAnswers) {
    self.container = container
    self.place = Mutex(place)
    self.answers = answers
    name = log.name
    capabilities = DirtyLogCapabilities(
      scope: DirtyScope(rawValue: log.scope) ?? .everythingMapped, pageSizes: log.pageSizes,
      queryBitmapByteCountMax: log.queryBitmapByteCountMax, mayCrossHoles: log.mayCrossHoles,
      mayCutMapping: log.mayCutMapping, canPeek: log.canPeek, rangeCountMax: log.rangeCountMax,
      isAskedAfterUnmap: log.isAskedAfterUnmap)
  }

  func move(to index: UInt16) { place.withLock { $0 = index } }

  private func take(_ call: BackendAnswer.Call, _ range: IOVARange?) -> BackendAnswer? {
    answers.take(container, place.withLock { $0 }, call, range)
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
