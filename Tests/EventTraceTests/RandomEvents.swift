import Addressing
import EventTrace
import Snapshot
import GuestDirtyLog
import TestSupport

/// Events of every kind, with values from the ends of their ranges too.
struct RandomEvents {
  /// Numbers `make` understands: one a kind.
  static let kindCount = 45

  var random: SeededGenerator

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  mutating func number() -> UInt64 {
    switch random.below(6) {
    case 0: 0
    case 1: .max
    case 2: random.below(256 as UInt64)
    case 3: random.next() & ~0xfff
    case 4: 1 << random.below(64 as UInt64)
    default: random.next()
    }
  }

  mutating func range<A: Address>(_ type: A.Type) -> AddressRange<A> {
    let ends = [number(), number()].sorted()
    return AddressRange(first: A(ends[0]), last: A(ends[1]))
  }

  /// Sorted runs, mostly of whole pages.
  mutating func runs<A: Address>(_ type: A.Type) -> [AddressRange<A>] {
    if random.once(in: 6) { return (0..<random.below(4)).map { _ in range(type) } }
    var next = random.below(1000 as UInt64)
    return (0..<random.below(12)).map { _ in
      let first = next + random.below(20 as UInt64)
      let last = first + random.below(9 as UInt64)
      next = last + 2
      return AddressRange(first: A(first * 4096), last: A(last * 4096 + 4095))
    }
  }

  mutating func text() -> String {
    ["", "ram", "nvme0", "größer", "a\u{0}b", String(repeating: "n", count: random.below(300))][
      random.below(6)]
  }

  mutating func count() -> Int? { random.once(in: 3) ? nil : random.below(1 << 40) }
  mutating func flag() -> Bool { random.once(in: 2) }
  mutating func id() -> UInt16 { UInt16(truncatingIfNeeded: random.next()) }

  mutating func region() -> RAMRegion {
    RAMRegion(
      name: text(), gpa: range(GPA.self), hvaFirst: flag() ? HVA(number()) : nil, node: count(),
      isReadOnly: flag())
  }

  mutating func log() -> TraceLog {
    TraceLog(
      name: text(), identity: number(), scope: UInt8(truncatingIfNeeded: random.next()),
      pageSizes: PageSizeSet(mask: number()), queryBitmapByteCountMax: number(),
      mayCrossHoles: flag(), mayCutMapping: flag(), canPeek: flag(), rangeCountMax: count(),
      isAskedAfterUnmap: flag(), granulePageCount: 1 << random.below(21 as UInt64),
      granulePageSize: PageSize(bytes: 4096 << random.below(51 as UInt64)) ?? .fourKiB)
  }

  mutating func logs() -> [TraceLog] { (0..<random.below(4)).map { _ in log() } }

  mutating func container() -> TraceContainer {
    TraceContainer(
      name: text(), isOwnedByVMM: flag(), isIdentity: flag(),
      pageSizes: PageSizeSet(mask: number()), splitsMappings: flag(), mappingCountMax: count(),
      validRanges: runs(IOVA.self), hasAtomicUnmap: flag(), unmapBitmapByteCountMax: number(),
      logs: logs())
  }

  mutating func failure() -> TraceFailure? {
    flag()
      ? nil
      : TraceFailure(
        errno: Int32(truncatingIfNeeded: random.next()), isPartial: flag(), isGone: flag(),
        detail: text())
  }

  mutating func answer() -> BackendAnswer {
    BackendAnswer(
      container: id(), log: flag() ? id() : nil,
      call: BackendAnswer.Call.allCases[random.below(BackendAnswer.Call.allCases.count)],
      range: flag() ? range(IOVA.self) : nil, unmappedByteCount: number(), dirty: runs(IOVA.self),
      cleanCallCountBefore: number(), failure: failure())
  }

  mutating func next() -> TrackerEvent { make(random.below(Self.kindCount)) }

  mutating func make(_ kind: Int) -> TrackerEvent {
    switch kind {
    case 0:
      .trackerMade(
        TraceConfiguration(
          pageSize: [.fourKiB, .twoMiB, .oneGiB][random.below(3)], sendsPinnedEveryRound: flag(),
          omissionMask: UInt8(truncatingIfNeeded: random.next()), trustsGuest: flag(),
          rearmPageCount: number()))
    case 1: .containerAdded(container: id(), container())
    case 2: .containerRemoved(container: id())
    case 3: .attachmentChanged(container: id(), container())
    case 4: .transactionBegan
    case 5: .transactionCommitted
    case 6: .regionAdded(region())
    case 7: .regionRemoved(region())
    case 8: .regionUnchanged(region())
    case 9: .globalLogStarted
    case 10: .globalLogStopped
    case 11: .logStarted(region())
    case 12: .logStopped(region())
    case 13: .logSynced(flag() ? range(GPA.self) : nil)
    case 14: .logCleared(range(GPA.self))
    case 15: .ramDiscarded(range(GPA.self))
    case 16: .ramPopulated(range(GPA.self))
    default: makeMore(kind)
    }
  }

  private mutating func makeMore(_ kind: Int) -> TrackerEvent {
    switch kind {
    case 17:
      .mapped(
        container: id(), iova: range(IOVA.self), gpaFirst: GPA(number()),
        permissions: Permissions(rawValue: UInt8(random.below(4))))
    case 18: .unmapped(container: id(), iova: range(IOVA.self))
    case 19:
      .unmappedByVMM(
        container: id(), iova: range(IOVA.self),
        answer: flag()
          ? UnmapAnswer(
            window: range(IOVA.self), pageSize: flag() ? .twoMiB : .fourKiB,
            dirty: runs(IOVA.self))
          : nil)
    case 20: .ramAdded(region())
    case 21: .addressSpaceSwitched(container: id(), isIdentity: flag())
    case 22:
      .deviceWrote(
        container: id(), iova: range(IOVA.self), since: flag() ? Generation(number()) : nil)
    case 23: .ramRemoved(region())
    case 24: .ramGone(container: id(), range(GPA.self))
    case 25: .synced(isFinal: flag())
    case 26: .answered(answer())
    case 27: .startBegan(container: id(), paysOwed: flag())
    case 28:
      .syncBegan(container: id(), range: range(IOVA.self), isFinal: flag(), asks: flag())
    case 29:
      .stopBegan(container: id(), TraceStop(marksForReaders: flag(), isRemoval: flag()))
    case 30:
      .stepped(
        container: id(), windowByteCountMax: number(), mappingCountMax: number(),
        pageCountMax: number())
    case 31: .courseEnded(container: id())
    default: .log(makeEntry(kind))
    }
  }

  private mutating func small() -> Int { Int(random.next() >> 1) }

  mutating func source() -> DirtySource {
    let container = ContainerID(id())
    let sources: [DirtySource] = [
      .vcpu, .deviceQuery(container), .unmap(container), .conservative(nil),
      .conservative(container), .putBack,
    ]
    return sources[random.below(sources.count)]
  }

  private mutating func makeEntry(_ kind: Int) -> DirtyLogEntry {
    switch kind {
    case 32: return .regionAdded(region())
    case 33: return .regionRemoved(at: GPA(number()))
    case 34: return .consumerAdded(consumer: small(), name: text(), fills: flag())
    case 35: return .shareAdded(consumer: small(), region: GPA(number()))
    case 36:
      let ends = [small(), small()].sorted()
      return .othersKept(except: small(), region: GPA(number()), blocks: ends[0]..<ends[1])
    case 37: return .consumerRemoved(consumer: small())
    case 38: return .marked(by: source(), flag() ? [range(GPA.self)] : runs(GPA.self))
    case 39: return .taken(consumer: small(), harvest: number(), runs(GPA.self))
    case 40: return .departed(consumer: small(), harvest: number(), pageCount: number())
    case 41: return .delivered(consumer: small(), harvest: number())
    case 42: return .putBack(consumer: small(), harvest: number())
    case 43: return .allMarkedDirty(because: text())
    default: return .allDirtyReset
    }
  }
}
