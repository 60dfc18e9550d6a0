import Addressing
import GuestDirtyLog

// How the parts of a snapshot are laid out in a section, in the order of the lines below.

extension PayloadWriter {
  mutating func tracker(_ snapshot: TrackerSnapshot) {
    integer(snapshot.firstSequence)
    integer(snapshot.place)
    configuration(snapshot.configuration)
    boolean(snapshot.isTracking)
    regions(snapshot.ram)
    ranges(snapshot.discarded)
    boolean(snapshot.transaction != nil)
    guard let transaction = snapshot.transaction else { return }
    regions(transaction.added)
    regions(transaction.removed)
  }

  private mutating func configuration(_ configuration: TraceConfiguration) {
    integer(configuration.pageSize.bytes)
    boolean(configuration.sendsPinnedEveryRound)
    bytes.append(configuration.omissionMask)
    boolean(configuration.trustsGuest)
    integer(configuration.rearmPageCount)
    integer(configuration.identityMappingByteCountMax)
  }

  private mutating func regions(_ regions: [RAMRegion]) {
    integer(UInt64(regions.count))
    for region in regions {
      ranges([region.gpa])
      self.region(region)
    }
  }

  /// Without its table, which is in pieces of its own.
  mutating func state(_ state: SnapshotContainer) {
    integer(UInt64(state.number))
    integer(state.place)
    container(state.container)
    boolean(state.isTracking)
    boolean(state.hasPartialUnmap)
    boolean(state.unknownMappings != nil)
    if let unknown = state.unknownMappings { string(unknown) }
    integer(state.generation.rawValue)
    integer(UInt64(state.staleRAM.count))
    for stale in state.staleRAM {
      ranges([stale.gpa])
      integer(stale.generation.rawValue)
    }
    ranges(state.owed)
    integer(UInt64(state.logs.count))
    for log in state.logs {
      logs([log.log])
      integer(log.pageSize.bytes)
      bytes.append(log.mode.rawValue)
      boolean(log.mayBeRunning)
      boolean(log.needsRestart)
      ranges(log.ranges)
      ranges(log.failed)
      ranges(log.refused)
      integer(log.restartWait)
      integer(log.restartInterval)
    }
  }

  mutating func piece(_ piece: SnapshotContainer.Piece) {
    ranges([piece.range])
    integer(UInt64(piece.mappings.count))
    var last: UInt64 = 0
    for mapping in piece.mappings {
      integer(mapping.iova.first.rawValue &- last)
      integer(mapping.iova.lastOffset)
      integer(mapping.gpaFirst.rawValue)
      bytes.append(mapping.permissions.rawValue)
      integer(mapping.generation.rawValue)
      last = mapping.iova.last.rawValue
    }
  }

  mutating func log(_ copy: DirtyLogCopy) {
    integer(copy.place.sequence)
    boolean(copy.allDirtyReason != nil)
    if let reason = copy.allDirtyReason { string(reason) }
    regions(copy.regions)
    integer(UInt64(copy.consumers.count))
    for consumer in copy.consumers {
      integer(UInt64(max(0, consumer.number)))
      string(consumer.name)
    }
    integer(UInt64(copy.flights.count))
    for flight in copy.flights {
      integer(UInt64(max(0, flight.consumer)))
      integer(flight.harvest)
      ranges(flight.runs)
    }
  }

  mutating func blocks(_ blocks: DirtyLogCopy.Blocks) {
    integer(blocks.region.rawValue)
    integer(UInt64(blocks.blocks.lowerBound))
    integer(UInt64(blocks.blocks.count))
    integer(blocks.place.sequence)
    ranges(blocks.common)
    integer(UInt64(blocks.own.count))
    for own in blocks.own { ranges(own) }
    integer(UInt64(blocks.held.count))
    for held in blocks.held {
      integer(UInt64(held.container))
      ranges(held.current)
      ranges(held.next)
    }
  }
}

extension PayloadReader {
  mutating func tracker() throws(PayloadFault) -> TrackerSnapshot {
    let (first, place) = (try integer(), try integer())
    var snapshot = TrackerSnapshot(
      firstSequence: first, configuration: try configuration(), place: place)
    snapshot.isTracking = try boolean()
    snapshot.ram = try regions()
    snapshot.discarded = try ranges(GPA.self)
    guard try boolean() else { return snapshot }
    snapshot.transaction = .init(added: try regions(), removed: try regions())
    return snapshot
  }

  private mutating func configuration() throws(PayloadFault) -> TraceConfiguration {
    TraceConfiguration(
      pageSize: try pageSize(), sendsPinnedEveryRound: try boolean(),
      omissionMask: try littleEndian(UInt8.self), trustsGuest: try boolean(),
      rearmPageCount: try integer(), identityMappingByteCountMax: try integer())
  }

  private mutating func pageSize() throws(PayloadFault) -> PageSize {
    guard let size = PageSize(bytes: try integer()) else { throw .outOfRange }
    return size
  }

  private mutating func regions() throws(PayloadFault) -> [RAMRegion] {
    var found: [RAMRegion] = []
    for _ in 0..<(try elementCount(byteCountMin: 8)) {
      let gpa = try single(GPA.self)
      found.append(try region(gpa))
    }
    return found
  }

  private mutating func single<A: Address>(
    _ type: A.Type
  ) throws(PayloadFault) -> AddressRange<A> {
    let one = try ranges(type)
    guard one.count == 1 else { throw .outOfRange }
    return one[0]
  }

  private mutating func number() throws(PayloadFault) -> UInt16 {
    guard let number = UInt16(exactly: try integer()) else { throw .outOfRange }
    return number
  }

  private mutating func int() throws(PayloadFault) -> Int {
    guard let number = Int(exactly: try integer()) else { throw .outOfRange }
    return number
  }

  mutating func state() throws(PayloadFault) -> SnapshotContainer {
    let (number, place) = (try number(), try integer())
    var state = SnapshotContainer(number: number, container: try container())
    state.place = place
    state.isTracking = try boolean()
    state.hasPartialUnmap = try boolean()
    if try boolean() { state.unknownMappings = try string() }
    state.generation = Generation(try integer())
    for _ in 0..<(try elementCount(byteCountMin: 5)) {
      let gpa = try single(GPA.self)
      state.staleRAM.append(.init(gpa: gpa, generation: Generation(try integer())))
    }
    state.owed = try ranges(IOVA.self)
    for _ in 0..<(try elementCount(byteCountMin: 20)) { state.logs.append(try trackedLog()) }
    return state
  }

  private mutating func trackedLog() throws(PayloadFault) -> SnapshotTrackedLog {
    let described = try logs()
    let pageSize = try pageSize()
    guard described.count == 1,
      let mode = SnapshotTrackedLog.Mode(rawValue: try littleEndian(UInt8.self))
    else { throw .outOfRange }
    var log = SnapshotTrackedLog(log: described[0], pageSize: pageSize, mode: mode)
    log.mayBeRunning = try boolean()
    log.needsRestart = try boolean()
    log.ranges = try ranges(IOVA.self)
    log.failed = try ranges(IOVA.self)
    log.refused = try ranges(IOVA.self)
    log.restartWait = try integer()
    log.restartInterval = try integer()
    return log
  }

  mutating func piece() throws(PayloadFault) -> SnapshotContainer.Piece {
    var piece = SnapshotContainer.Piece(range: try single(IOVA.self), mappings: [])
    var last: UInt64 = 0
    for _ in 0..<(try elementCount(byteCountMin: 5)) {
      let first = last &+ (try integer())
      let (end, wraps) = first.addingReportingOverflow(try integer())
      let gpaFirst = GPA(try integer())
      let permissions = try Self.permissions(try littleEndian(UInt8.self))
      guard !wraps, gpaFirst.advanced(byBytes: end &- first) != nil else { throw .outOfRange }
      piece.mappings.append(
        Mapping(
          checkedIOVA: AddressRange(first: IOVA(first), last: IOVA(end)), gpaFirst: gpaFirst,
          permissions: permissions, generation: Generation(try integer())))
      last = end
    }
    return piece
  }

  mutating func log() throws(PayloadFault) -> DirtyLogCopy {
    var copy = DirtyLogCopy()
    copy.place = JournalPlace(try integer())
    if try boolean() { copy.allDirtyReason = try string() }
    copy.regions = try regions()
    for _ in 0..<(try elementCount(byteCountMin: 2)) {
      let number = try int()
      copy.consumers.append(.init(number: number, name: try string()))
    }
    for _ in 0..<(try elementCount(byteCountMin: 4)) {
      let (consumer, harvest) = (try int(), try integer())
      copy.flights.append(
        .init(consumer: consumer, harvest: harvest, runs: try ranges(GPA.self)))
    }
    return copy
  }

  mutating func blocks() throws(PayloadFault) -> DirtyLogCopy.Blocks {
    let (region, first, count) = (GPA(try integer()), try int(), try int())
    guard count <= Int.max - first else { throw .outOfRange }
    var blocks = DirtyLogCopy.Blocks(
      region: region, blocks: first..<(first + count), place: JournalPlace(try integer()))
    blocks.common = try ranges(GPA.self)
    for _ in 0..<(try elementCount(byteCountMin: 2)) { blocks.own.append(try ranges(GPA.self)) }
    for _ in 0..<(try elementCount(byteCountMin: 5)) {
      let container = try number()
      blocks.held.append(
        .init(
          container: container, current: try ranges(GPA.self), next: try ranges(GPA.self)))
    }
    return blocks
  }
}
