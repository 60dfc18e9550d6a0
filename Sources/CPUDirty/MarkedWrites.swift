public import Addressing
public import GuestDirtyLog
public import PageBitmap
import Locking
import Synchronization

/// Where the kernel can not tell what vCPUs wrote: the threads that write say so themselves.
///
/// Invariants:
/// 1. A page told to `wrote` after it was written is in the next collection.
/// 2. Between `stop` and `start` nothing is kept.
///
/// It sees only writers that tell it. A thread tells it *after* its write: told before, a
/// collection in between would take the mark and send the page as it was.
public final class MarkedWrites: CPUDirtySource {
  public let name = "writes marked by the guest threads"
  private let pageSize: PageSize
  private let marked: [MarkedRegion]
  private let isStarted = Atomic(false)

  private final class MarkedRegion: Sendable {
    let region: RAMRegion
    let pages: Locking.Mutex<PageBitmap>

    init(_ region: RAMRegion, _ pageSize: PageSize) throws(PageBitmapError) {
      self.region = region
      self.pages = Locking.Mutex(
        try PageBitmap(pageCount: region.gpa.pageCount(pageSize), pageSize: pageSize))
    }
  }

  /// - Precondition: the regions consist of whole pages.
  public init(regions: [RAMRegion], pageSize: PageSize = .fourKiB) throws(PageBitmapError) {
    precondition(
      regions.allSatisfy { $0.gpa.isAligned(to: pageSize) }, "a region consists of whole pages")
    var marked: [MarkedRegion] = []
    for region in regions { marked.append(try MarkedRegion(region, pageSize)) }
    self.marked = marked
    self.pageSize = pageSize
  }

  /// Starts from clean. Does nothing when started already.
  public func start() throws(CPUDirtyError) {
    if isStarted.load(ordering: .acquiring) { return }
    for region in marked { region.pages.withLock { $0.removeAll() } }
    isStarted.store(true, ordering: .releasing)
  }

  public func stop() { isStarted.store(false, ordering: .releasing) }

  /// The calling thread has written to `range`. What lies outside the regions is left out.
  public func wrote(_ range: GPARange) {
    guard isStarted.load(ordering: .acquiring) else { return }
    for region in marked {
      guard let part = range.intersection(region.region.gpa) else { continue }
      let first = (part.first.rawValue &- region.region.gpa.first.rawValue) &>> pageSize.shift
      let last = (part.last.rawValue &- region.region.gpa.first.rawValue) &>> pageSize.shift
      region.pages.withLock { _ = $0.insert(first: first, last: last) }
    }
  }

  /// Fails only when it was not started.
  public func collect(into log: GuestDirtyLog) throws(CPUDirtyError) -> UInt64 {
    guard isStarted.load(ordering: .acquiring) else {
      throw CPUDirtyError(
        object: name, operation: "collect", errno: 0, detail: "it was not started")
    }
    var count: UInt64 = 0
    for region in marked {
      for run in take(region) { count &+= log.mark(run, by: .vcpu).dirtyPages }
    }
    return count
  }

  /// A few runs at a time, so that a writer never waits for long. What is written behind the place
  /// reached is left for the next collection.
  private func take(_ region: MarkedRegion) -> [GPARange] {
    var taken: [PageRun] = []
    var next: UInt64? = 0
    while let page = next {
      next = region.pages.withLock {
        $0.takeRuns(from: page, pageCountMax: 1 << 16, into: &taken, runCountMax: 64)
      }
    }
    let base = region.region.gpa.first.rawValue
    return taken.map { run in
      let first = GPA(base &+ run.first &<< pageSize.shift)
      let last = GPA(base &+ run.last &<< pageSize.shift).lastOfPage(pageSize)
      return AddressRange(first: first, last: last)
    }
  }
}
