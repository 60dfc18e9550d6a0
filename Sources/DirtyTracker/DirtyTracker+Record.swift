import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Addressing
import Locking

extension DirtyTracker {
  /// Records an event and lets it happen, without another one in between.
  func taking<R: Sendable, E: Error>(
    _ event: @autoclosure () -> TrackerEvent, _ body: () throws(E) -> R
  ) throws(E) -> R {
    guard let record = settings.record else { return try body() }
    return try gate.withLock { (gate: inout sending Gate) throws(E) -> R in
      gate.recent = nil
      record.append(event())
      return try body()
    }
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
      trustsGuest: policy.twoStepUnmap == .trustGuest, rearmPageCount: policy.rearmPageCount)
  }
}

extension TrackedContainer {
  /// As it is now.
  var traced: TraceContainer {
    let space = book.withLock { (book: inout ContainerBook) in book.addressSpace }
    return TraceContainer(backend, ownership: ownership, addressSpace: space)
  }

  /// Records what a call that succeeded reported; nothing when it reported nothing.
  func answered(_ call: BackendAnswer.Call, log index: Int? = nil, _ bitmap: borrowing QueryBitmap)
  {
    guard let record = settings.record, !bitmap.isClear else { return }
    var dirty: [IOVARange] = []
    bitmap.forEachDirtyRun { dirty.append($0) }
    record.append(
      .answered(
        BackendAnswer(
          container: id.rawValue, log: index.map { UInt16(truncatingIfNeeded: $0) }, call: call,
          range: bitmap.window, dirty: dirty)))
  }

  /// Records that a call failed.
  func answered(
    _ call: BackendAnswer.Call, log index: Int? = nil, range: IOVARange? = nil,
    error: ContainerError
  ) {
    guard let record = settings.record else { return }
    let failure = TraceFailure(
      errno: error.errno, isPartial: error.isPartial, detail: error.detail)
    record.append(
      .answered(
        BackendAnswer(
          container: id.rawValue, log: index.map { UInt16(truncatingIfNeeded: $0) }, call: call,
          range: range, failure: failure)))
  }
}

extension TraceRegion {
  init(_ region: RAMRegion) {
    self.init(
      name: region.name, gpa: region.gpa, hvaFirst: region.hvaFirst, node: region.node,
      isReadOnly: region.isReadOnly)
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
      isAskedAfterUnmap: capabilities.isAskedAfterUnmap)
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
