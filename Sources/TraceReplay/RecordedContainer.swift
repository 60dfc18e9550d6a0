import Addressing
import DMAContainer
import EventTrace
import Snapshot
import IOVAMapping
import PageBitmap
import Locking

/// A container that answers what was recorded.
final class RecordedContainer: DMAContainer {
  let name: String
  let answers = RecordedAnswers()
  private let others: [RecordedLog]
  private let state: Mutex<State>

  private struct State: Sendable {
    var capabilities: ContainerCapabilities
    var logs: [RecordedLog]
  }

  /// - Parameter others: logs that the container has had, and that are still driven.
  init(_ container: TraceContainer, alsoWith others: [TraceLog] = []) {
    name = container.name
    let answers = answers
    state = Mutex(
      State(
        capabilities: ContainerCapabilities(container),
        logs: container.logs.enumerated().map { place, log in
          RecordedLog(UInt16(truncatingIfNeeded: place), log, answers)
        }))
    self.others = others.filter { other in
      !container.logs.contains { $0.identity == other.identity }
    }.map { RecordedLog(.max, $0, answers) }
  }

  var logsByIdentity: [UInt64: any DirtyLog] {
    var found: [UInt64: any DirtyLog] = [:]
    for log in state.withLock({ $0.logs }) + others { found[log.identity] = log }
    return found
  }

  var capabilities: ContainerCapabilities { state.withLock { $0.capabilities } }
  var dirtyLogs: [any DirtyLog] { state.withLock { $0.logs.map { $0 as any DirtyLog } } }

  /// Its devices are others now. A log that stays may be in another place, and able to do other
  /// things.
  func attach(_ traced: TraceContainer) {
    state.withLock { state in
      state.capabilities = ContainerCapabilities(traced)
      let old = state.logs
      state.logs = traced.logs.enumerated().map { place, log in
        let index = UInt16(truncatingIfNeeded: place)
        guard let same = old.first(where: { $0.identity == log.identity }) else {
          return RecordedLog(index, log, answers)
        }
        same.become(log, at: index)
        return same
      }
    }
  }

  func map(_ request: MapRequest) throws(ContainerError) {
    try Self.check(answers.take(nil, .map, request.iova), .map, name)
  }

  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    let answer = answers.take(nil, .unmap, range)
    try Self.check(answer, .unmap, name)
    return answer?.unmappedByteCount ?? range.byteCount ?? UInt64.max
  }

  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    let answer = answers.take(nil, .unmapWithDirty, dirty.window)
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
      isPartial: failure.isPartial, isGone: failure.isGone)
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
