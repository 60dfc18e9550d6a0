import Addressing
import DMAContainer
import EventTrace
import Snapshot
import Locking
import PageBitmap

/// A dirty log that answers what was recorded.
final class RecordedLog: DirtyLog {
  let name: String
  let identity: UInt64
  private let state: Mutex<State>
  private let answers: RecordedAnswers

  private struct State: Sendable {
    var place: UInt16
    var capabilities: DirtyLogCapabilities
  }

  init(_ place: UInt16, _ log: TraceLog, _ answers: RecordedAnswers) {
    identity = log.identity
    state = Mutex(State(place: place, capabilities: DirtyLogCapabilities(log)))
    self.answers = answers
    name = log.name
  }

  var capabilities: DirtyLogCapabilities { state.withLock { $0.capabilities } }

  func become(_ log: TraceLog, at place: UInt16) {
    state.withLock { $0 = State(place: place, capabilities: DirtyLogCapabilities(log)) }
  }

  private func take(_ call: BackendAnswer.Call, _ range: IOVARange?) -> BackendAnswer? {
    answers.take(state.withLock { $0.place }, call, range)
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
      mayCutMapping: log.mayCutMapping, canPeek: log.canPeek,
      granule: DirtyLogGranule(pageCount: log.granulePageCount, pageSize: log.granulePageSize),
      rangeCountMax: log.rangeCountMax,
      isAskedAfterUnmap: log.isAskedAfterUnmap)
  }
}
