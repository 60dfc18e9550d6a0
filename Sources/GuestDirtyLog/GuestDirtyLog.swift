public import Addressing
import PageBitmap
import Locking
import struct Synchronization.Atomic
import struct Synchronization.AtomicLazyReference

/// Which guest pages are dirty, who said so, and who has yet to read it.
///
/// Terms:
/// - **Dirty**: written since last harvested by a consumer.
/// - **In flight**: harvested, neither delivered nor put back.
/// - **Held back**: pinned pages, dirty in every round, that count for stop-and-copy only.
///
/// Invariants:
/// 1. A mark reaches every consumer there is. A put-back is a mark.
/// 2. A page leaves the log for a consumer only by a harvest of that consumer, and comes back when
///    the harvest is put back.
/// 3. A harvest whose pages can not be put back (its region is gone or another one, or the log does
///    not know it) makes everything dirty, for every consumer there is and every one that comes,
///    until `resetAllDirty`.
/// 4. A region that comes while there are consumers is dirty for them as a whole. One that goes
///    takes its pages along, those in flight excepted: see 3.
///
/// States of a page, for one consumer:
///
///     clean --mark--> dirty --harvest--> in flight --delivered--> clean
///                       ^                    |
///                       '----- putBack ------'
///
/// Locks, in the order in which they may be taken: `structure`, by what changes regions, consumers
/// and held-back sets, may be held for long; `directory`, for a few instructions; one region's, for
/// one mark or a few blocks of bits (`HoldLimits`). A mark takes the last two, one after the other.
///
/// What is long takes a region's lock for one piece after the other and lets marks, harvests and
/// holding back in between. Nothing is lost or counted twice by that, because a page is touched
/// under the lock, and each step leaves it dirty, in flight, or held by somebody:
/// - **harvest**: a page is in the bitmap or in the harvest. A mark behind the place stays for the
///   next harvest, and `isLast` is asked at the end; one ahead of it is taken along.
/// - **settle, release**: what was noted becomes what is held, and what was held is to be released,
///   under one hold before the walk. What is held back after that is noted for the next settling,
///   wherever the walk stands. Only the walk takes pages out of what is to be released, and puts
///   them into the log under the same hold, which counts those that were clean.
/// - **drop**: the set goes under one hold. What is held back after that is noted in another set.
/// - **marks**: each piece is a mark of its own.
/// - **questions** add up what they find piece by piece: a page that is dirty all the while is
///   counted once.
public final class GuestDirtyLog: Sendable {
  /// Harvests in flight for one consumer. Past it the oldest is put back: nothing is lost, its
  /// pages go again.
  public static let flightCountMax = 4096

  public let pageSize: PageSize
  let topology: any NUMATopology
  let workers: any NodeWorkers
  let limits: HoldLimits
  let structure = Mutex(())
  let directory = Mutex(Directory())
  /// Set once, before there is anything to write down.
  let attached = AtomicLazyReference<AttachedJournal>()
  /// Whether there is one: a question each mark asks, and of a generic reference the runtime first
  /// asks for its type.
  let hasJournal = Atomic(false)

  /// - Parameters:
  ///   - topology: where bitmaps are placed: on the node of their region.
  ///   - workers: who merges, when there is more than one node.
  public convenience init(
    pageSize: PageSize = .fourKiB, topology: any NUMATopology = SystemNUMATopology(),
    workers: any NodeWorkers = InlineNodeWorkers()
  ) {
    self.init(pageSize: pageSize, topology: topology, workers: workers, limits: HoldLimits())
  }

  package init(
    pageSize: PageSize = .fourKiB, topology: any NUMATopology = SystemNUMATopology(),
    workers: any NodeWorkers = InlineNodeWorkers(), limits: HoldLimits
  ) {
    self.pageSize = pageSize
    self.topology = topology
    self.workers = workers
    self.limits = limits
  }

  // MARK: statistics

  public var allDirtyReason: String? { directory.withLock { $0.allDirtyReason } }

  /// Newly dirty pages by who said so, since the log was made. Sources that found none are absent.
  public var pagesBySource: [DirtySource: UInt64] { sourceCounts.pagesBySource }

  var sourceCounts: SourceCounts {
    var (counts, regions) = directory.withLock { ($0.countsOfGone, $0.regions) }
    for region in regions {
      // One that goes meanwhile is not among those that were gone above.
      counts += region.withState { $0.counts }
    }
    return counts
  }

  // MARK: everything

  @discardableResult
  public func markEverything(by source: DirtySource) -> MarkCount {
    markEverything(by: source, at: journaled(.marked(by: source, regions.map(\.gpa))))
  }

  package func markEverything(by source: DirtySource, at place: JournalPlace) -> MarkCount {
    onNodes(directory.withLock { $0.regions }) { region in
      region.mark(first: 0, last: region.pageCount &- 1, by: source, at: place)
    }
  }

  /// Everything is dirty: for every consumer there is, and for every one that comes until
  /// `resetAllDirty`. The first reason stays.
  public func markAllDirtyForGood(because reason: String) {
    let place = directory.withLock { directory in
      if directory.allDirtyReason == nil { directory.allDirtyReason = reason }
      return journaled(.allMarkedDirty(because: reason))
    }
    _ = markEverything(by: .conservative(nil), at: place)
  }

  /// A new attempt sends everything anyway.
  public func resetAllDirty() {
    directory.withLock { directory in
      directory.allDirtyReason = nil
      write(.allDirtyReset)
    }
  }

  /// Runs `body` for every region, by one worker a node when there is more than one node.
  @discardableResult
  func onNodes(
    _ regions: [RegionLog], _ body: @escaping @Sendable (RegionLog) -> MarkCount
  ) -> MarkCount {
    var nodes: [Int?: [RegionLog]] = [:]
    if topology.nodeCount > 1 {
      for region in regions { nodes[topology.node(of: region.region), default: []].append(region) }
    }
    guard nodes.count > 1 else {
      return regions.reduce(into: MarkCount()) { $0 += body($1) }
    }
    let total = Total()
    let order = nodes.sorted { ($0.key ?? -1) < ($1.key ?? -1) }
    workers.run(
      order.map { node, regions in
        NodeWork(node: node) { for region in regions { total.add(body(region)) } }
      })
    return total.value
  }
}

/// The sum of what workers did.
private final class Total: Sendable {
  private let count = Mutex(MarkCount())
  func add(_ more: MarkCount) { count.withLock { $0 += more } }
  var value: MarkCount { count.withLock { $0 } }
}
