import DMAContainer
import EventTrace
package import Snapshot
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Addressing
import Locking

extension DirtyTracker {
  /// Records what the tracker was told, or a change of what it knows.
  func record(_ event: @autoclosure () -> TrackerEvent) {
    if let record = settings.record { record.append(event()) }
  }

  static func configuration(
    _ policy: TrackerPolicy, _ omitting: Set<TrackerOmission>
  ) -> TraceConfiguration {
    var mask: UInt8 = 0
    for (bit, omission) in TrackerOmission.allCases.enumerated() where omitting.contains(omission) {
      mask |= 1 << UInt8(bit)
    }
    return TraceConfiguration(
      pageSize: policy.pageSize, sendsPinnedEveryRound: policy.pinnedPages == .everyRound,
      omissionMask: mask,
      trustsGuest: policy.twoStepUnmap == .trustGuest, rearmPageCount: policy.rearmPageCount,
      identityMappingByteCountMax: policy.identityMappingByteCountMax)
  }
}

extension TrackerPolicy {
  package init(_ configuration: TraceConfiguration) {
    self.init()
    pageSize = configuration.pageSize
    pinnedPages = configuration.sendsPinnedEveryRound ? .everyRound : .stopAndCopy
    twoStepUnmap = configuration.trustsGuest ? .trustGuest : .markMapping
    rearmPageCount = configuration.rearmPageCount
    identityMappingByteCountMax = configuration.identityMappingByteCountMax
  }
}

extension TraceConfiguration {
  package var omissions: Set<TrackerOmission> {
    var omissions: Set<TrackerOmission> = []
    for (bit, omission) in TrackerOmission.allCases.enumerated()
    where omissionMask & (1 << UInt8(bit)) != 0 {
      omissions.insert(omission)
    }
    return omissions
  }
}

extension ContainerState {
  /// As it is now.
  mutating func traced() -> TraceContainer {
    var traced = TraceContainer(
      context.backend, ownership: context.ownership, addressSpace: addressSpace)
    let logs = context.backend.dirtyLogs
    for index in logs.indices where index < traced.logs.count {
      traced.logs[index].identity = identity(of: logs[index])
    }
    return traced
  }

  /// A number of its own for every log the container has had.
  mutating func identity(of log: any DirtyLog) -> UInt64 {
    if let index = knownLogs.firstIndex(where: { $0 === log }) { return UInt64(index) }
    knownLogs.append(log)
    return UInt64(knownLogs.count - 1)
  }

  /// An operation begins: what it does is recorded as this event, and belongs there.
  mutating func begin(_ event: @autoclosure () -> TrackerEvent) {
    guard let record = settings.record else { return }
    begin(at: record.append(event()))
  }

  private mutating func begin(at place: JournalPlace) {
    self.place = place
    cleanCallCount = 0
  }

  /// The same for an event that describes the container.
  mutating func begin(describedBy event: (UInt16, TraceContainer) -> TrackerEvent) {
    guard settings.record != nil else { return }
    let described = event(id.rawValue, traced())
    begin(described)
  }

  /// The same for a map, which makes no event of its own.
  mutating func beginMap(_ request: MapRequest, isToldAhead: Bool) {
    guard let record = settings.record else { return }
    begin(
      at: record.appendMapped(
        container: id.rawValue, iova: request.iova, gpaFirst: request.gpaFirst,
        permissions: request.permissions, isAhead: isToldAhead))
  }

  mutating func beginUnmap(_ range: IOVARange) {
    guard let record = settings.record else { return }
    begin(at: record.appendUnmapped(container: id.rawValue, iova: range))
  }

  /// A call succeeded and reported nothing: it is counted.
  mutating func answeredClean() { cleanCallCount &+= 1 }

  /// Records what a call that succeeded reported.
  mutating func answered(_ call: BackendAnswer.Call, log index: Int? = nil) {
    guard settings.record != nil, !bitmap.isClear else { return answeredClean() }
    var dirty: [IOVARange] = []
    bitmap.forEachDirtyRun { dirty.append($0) }
    write(
      BackendAnswer(
        container: id.rawValue, log: index.map { UInt16(truncatingIfNeeded: $0) }, call: call,
        range: bitmap.window, dirty: dirty))
  }

  /// Records that a call failed.
  mutating func answered(
    _ call: BackendAnswer.Call, log index: Int? = nil, range: IOVARange? = nil,
    error: ContainerError
  ) {
    guard settings.record != nil else { return }
    let failure = TraceFailure(
      errno: error.errno, isPartial: error.isPartial, isGone: error.isGone,
      detail: error.detail)
    write(
      BackendAnswer(
        container: id.rawValue, log: index.map { UInt16(truncatingIfNeeded: $0) }, call: call,
        range: range, failure: failure))
  }

  private mutating func write(_ answer: BackendAnswer) {
    var answer = answer
    answer.cleanCallCountBefore = cleanCallCount
    cleanCallCount = 0
    settings.record?.append(.answered(answer))
  }
}

extension TraceLog {
  init(_ log: any DirtyLog) {
    let capabilities = log.capabilities
    self.init(
      name: log.name, scope: capabilities.scope.rawValue, pageSizes: capabilities.pageSizes,
      queryBitmapByteCountMax: capabilities.queryBitmapByteCountMax,
      mayCrossHoles: capabilities.mayCrossHoles, mayCutMapping: capabilities.mayCutMapping,
      canPeek: capabilities.canPeek, rangeCountMax: capabilities.rangeCountMax,
      isAskedAfterUnmap: capabilities.isAskedAfterUnmap,
      granulePageCount: capabilities.granule.pageCount,
      granulePageSize: capabilities.granule.pageSize)
  }
}

extension TraceContainer {
  init(
    _ container: any DMAContainer, ownership: ContainerOwnership,
    addressSpace: ContainerAddressSpace
  ) {
    let capabilities = container.capabilities
    self.init(
      name: container.name, isOwnedByVMM: ownership == .vmm,
      isIdentity: addressSpace == .identity, pageSizes: capabilities.pageSizes,
      splitsMappings: capabilities.bisectPolicy == .split,
      mappingCountMax: capabilities.mappingCountMax, validRanges: capabilities.validRanges,
      hasAtomicUnmap: capabilities.hasAtomicUnmap,
      unmapBitmapByteCountMax: capabilities.unmapBitmapByteCountMax,
      logs: container.dirtyLogs.map { TraceLog($0) })
  }
}
