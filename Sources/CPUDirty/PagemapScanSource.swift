import Addressing
public import GuestDirtyLog
import Locking

/// Finds what vCPU threads, and the kernel on their behalf, wrote through one mapping of guest
/// memory: userfaultfd write protection that the kernel lifts by itself, read by PAGEMAP_SCAN.
///
/// Terms:
/// - **Watched mapping**: where `RAMRegion.hvaFirst` says this process sees a region.
/// - **Arm**: write-protect the pages, so that the next write to each is noticed.
///
/// Invariants:
/// 1. A page written through the watched mapping between two collections is in the second one.
///    Each page is read and armed in one step, so that no write falls between.
/// 2. A start that fails leaves nothing armed and nothing open.
/// 3. A collection that fails has marked what it read; what it read last may be lost to the kernel,
///    so the caller marks everything.
///
/// What is written through another mapping of the same memory, by `pwrite` to its file, or by a
/// device, is not seen. That is what the tracker is for.
///
/// States:
///
///      idle ──start──> armed ──collect──> armed
///        ^               │
///        └────stop───────┘     a failed start ends in idle
public final class PagemapScanSource: CPUDirtySource {
  public let name = "PAGEMAP_SCAN"
  private let regions: [RAMRegion]
  private let calls: any LinuxCalls
  private let state = Mutex<Armed?>(nil)

  private struct Watched {
    var hva: HVARange
    var gpaFirst: GPA
  }

  private struct Armed {
    var watch: Int32
    var pagemap: Int32
    var watched: [Watched]
  }

  /// - Parameter regions: of whole pages, each with `hvaFirst`.
  public init(regions: [RAMRegion], calls: any LinuxCalls = KernelCalls()) {
    self.regions = regions
    self.calls = calls
  }

  deinit { stop() }

  /// Starts from clean. Does nothing when started already.
  public func start() throws(CPUDirtyError) {
    try state.withLock { (armed: inout Armed?) throws(CPUDirtyError) in
      if armed == nil { armed = try arm() }
    }
  }

  public func stop() {
    state.withLock { armed in
      guard let old = armed else { return }
      armed = nil
      for region in old.watched { _ = calls.unregister(region.hva, from: old.watch) }
      // Closing ends what unregistering could not.
      calls.close(old.pagemap)
      calls.close(old.watch)
    }
  }

  public func collect(into log: GuestDirtyLog) throws(CPUDirtyError) -> UInt64 {
    try state.withLock { (armed: inout Armed?) throws(CPUDirtyError) in
      guard let armed else {
        throw CPUDirtyError(
          object: name, operation: "collect", errno: 0, detail: "it was not started")
      }
      var pages: UInt64 = 0
      for region in armed.watched {
        try scan(region, armed.pagemap) { run in
          pages &+= log.mark(run, by: .vcpu).dirtyPages
        }
      }
      return pages
    }
  }

  private func arm() throws(CPUDirtyError) -> Armed {
    let watched = try watchedRegions()
    let watch = calls.openWriteWatch()
    guard watch >= 0 else { throw failed("userfaultfd", watch, of: nil) }
    var pagemap: Int32 = -1
    do throws(CPUDirtyError) {
      let enabled = calls.enableWriteWatch(watch)
      guard enabled >= 0 else { throw failed("ioctl UFFDIO_API", enabled, of: nil) }
      for region in watched {
        let result = calls.register(region.hva, with: watch)
        guard result >= 0 else { throw failed("ioctl UFFDIO_REGISTER", result, of: region.hva) }
      }
      pagemap = calls.openPagemap()
      guard pagemap >= 0 else { throw failed("open of /proc/self/pagemap", pagemap, of: nil) }
      for region in watched { try scan(region, pagemap) { _ in } }
      return Armed(watch: watch, pagemap: pagemap, watched: watched)
    } catch {
      // Closing unregisters everything.
      if pagemap >= 0 { calls.close(pagemap) }
      calls.close(watch)
      throw error
    }
  }

  private func watchedRegions() throws(CPUDirtyError) -> [Watched] {
    var watched: [Watched] = []
    for region in regions {
      guard let first = region.hvaFirst, let last = first.advanced(byBytes: region.gpa.lastOffset)
      else {
        throw CPUDirtyError(
          object: name, operation: "start", errno: 0,
          detail: "\(region) is not mapped in this process; nothing is watched")
      }
      watched.append(
        Watched(hva: AddressRange(first: first, last: last), gpaFirst: region.gpa.first))
    }
    return watched
  }

  /// Calls `body` with each run of written pages, and arms them again.
  private func scan(
    _ region: Watched, _ pagemap: Int32, _ body: (GPARange) -> Void
  ) throws(CPUDirtyError) {
    var runs: [HVARange] = []
    var next = region.hva.first
    while true {
      let rest = AddressRange(first: next, last: region.hva.last)
      var walkEnd = next.rawValue
      runs.removeAll(keepingCapacity: true)
      let result = calls.takeWritten(in: rest, of: pagemap, into: &runs, walkEnd: &walkEnd)
      for run in runs {
        guard let part = run.intersection(rest) else { continue }
        let offset = part.first.rawValue &- region.hva.first.rawValue
        let first = GPA(region.gpaFirst.rawValue &+ offset)
        body(AddressRange(first: first, last: GPA(first.rawValue &+ part.lastOffset)))
      }
      guard result >= 0 else { throw failed("ioctl PAGEMAP_SCAN", result, of: rest) }
      if walkEnd > region.hva.last.rawValue { return }
      guard walkEnd > next.rawValue else {
        throw CPUDirtyError(
          object: name, operation: "ioctl PAGEMAP_SCAN", errno: 0,
          detail: "it stopped at HVA \(next) without having looked at anything")
      }
      next = HVA(walkEnd)
    }
  }

  private func failed(_ operation: String, _ result: Int32, of range: HVARange?) -> CPUDirtyError {
    CPUDirtyError(
      object: name, operation: operation, errno: -result,
      detail: PagemapScan.reason(operation, -result, range))
  }
}
