import Addressing
import CPUDirty
import Glibc
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

enum WatchedKernel {
  /// Why this kernel can not run the tests below, nil when it can.
  static let lacks: String? = {
    switch PagemapScan.availability() {
    case .available: nil
    case .unavailable(let error): error.description
    }
  }()
  static let skipped: Comment = "needs PAGEMAP_SCAN of Linux 6.7: \(lacks ?? "present")"
}

/// The guest's memory under the tracker of vCPU writes that the sample uses.
@Suite struct GuestWatchTests {
  let layout = GuestLayout(byteCount: 96 * 4096)

  struct Reader {
    let log = GuestDirtyLog()
    let consumer: ConsumerID
    let layout: GuestLayout

    init(_ ram: GuestRAM) throws {
      layout = ram.layout
      for region in ram.ramRegions { try log.addRegion(region) }
      consumer = try log.addConsumer("test", startsDirty: false)
    }

    /// Page numbers that `source` reports.
    func collect(_ source: any CPUDirtySource) throws -> Set<UInt64> {
      _ = try source.collect(into: log)
      let harvest = log.harvest(for: consumer, pageCountMax: .max, runCountMax: .max)
      log.delivered(harvest)
      var found: Set<UInt64> = []
      for run in harvest.runs {
        guard let first = layout.page(of: run.first), let last = layout.page(of: run.last) else {
          Issue.record("\(run) lies outside RAM")
          continue
        }
        found.formUnion(first...last)
      }
      return found
    }
  }

  func check(_ source: any CPUDirtySource, ram: GuestRAM, cpu: VirtualCPU) throws {
    let seed = TestSeed.seed(default: 51)
    var random = SeededGenerator(seed: seed)
    let reader = try Reader(ram)
    let ledger = try #require(ram.ledger)
    let bytes: [UInt8] = [1, 2, 3, 4]
    cpu.step()
    try source.start()
    for _ in 0..<40 {
      ledger.reset()
      for _ in 0..<random.below(30) {
        let gpa = layout.gpa(ofPage: random.below(layout.pageCount))
        let page = AddressRange(first: gpa, last: gpa.lastOfPage(.fourKiB))
        switch random.below(5) {
        case 0: cpu.step()
        case 1, 2: #expect(TestBytes.with(bytes) { ram.write($0, at: gpa) })
        case 3: _ = ram.withBytes(of: page) { $0.byteCount }
        default: _ = ram.withMutableBytes(of: page) { TestBytes.copy(bytes, to: &$0) }
        }
      }
      _ = ram.pageDigests()
      let written = (0..<layout.pageCount).filter { ledger.contains(page: $0, writtenBy: .vcpu) }
      #expect(
        try reader.collect(source) == Set(written),
        "\(TestSeed.reproduce(seed, filter: "GuestWatch"))")
    }
    source.stop()
  }

  @Test(.enabled(if: WatchedKernel.lacks == nil, WatchedKernel.skipped))
  func `the kernel reports what vCPUs wrote and nothing of devices or a migration`() throws {
    let ram = try GuestRAM(layout: layout, ledger: WriteLedger(layout: layout))
    let cpu = VirtualCPU(
      writer: 0, ram: ram, pattern: WritePattern(pages: 10..<90, hotPageCount: 5), seed: 1)
    try check(PagemapScanSource(regions: ram.ramRegions), ram: ram, cpu: cpu)
  }

  @Test func `where the kernel cannot, the vCPUs' own marks say the same`() throws {
    let ram = try GuestRAM(layout: layout, ledger: WriteLedger(layout: layout))
    let source = try MarkedWrites(regions: ram.ramRegions)
    let cpu = VirtualCPU(
      writer: 0, ram: ram, pattern: WritePattern(pages: 10..<90, hotPageCount: 5), seed: 1,
      marks: source.wrote)
    try check(source, ram: ram, cpu: cpu)
  }

  /// Copies what is reported while two vCPUs and a device run, and once more when they are paused.
  func copyWhileRunning(
    _ source: any CPUDirtySource, ram: GuestRAM, cpus: [VirtualCPU]
  ) throws {
    let reader = try Reader(ram)
    let copy = try GuestRAM(layout: layout)
    let devicePages = UInt64(64)..<96
    let device = StepThread(name: "device", stepsPerSecond: 20_000) {
      for page in devicePages {
        _ = TestBytes.with([7]) { ram.write($0, at: ram.layout.gpa(ofPage: page)) }
      }
    }
    try source.start()
    for cpu in cpus { try cpu.start() }
    try device.start()
    let clock = ContinuousClock()
    let start = clock.now
    var isLast = false
    var roundCount = 0
    while !isLast {
      usleep(1000)
      roundCount += 1
      isLast =
        roundCount >= 30 && device.stepCount > 10
        && cpus.allSatisfy { $0.state.generation > 500 }
        || start.duration(to: clock.now) > .seconds(20)
      if isLast {
        for cpu in cpus { cpu.pause() }
        device.pause()
      }
      for page in try reader.collect(source) {
        #expect(!devicePages.contains(page), "page \(page) is the device's alone")
        let gpa = layout.gpa(ofPage: page)
        let range = AddressRange(first: gpa, last: gpa.lastOfPage(.fourKiB))
        let content = ram.withBytes(of: range) { span in
          (0..<span.byteCount).map { TestBytes.byte(span, $0) }
        }
        #expect(TestBytes.with(content ?? []) { copy.write($0, at: gpa) })
      }
    }
    for cpu in cpus { cpu.stop() }
    device.stop()
    source.stop()
    // Of what the vCPUs wrote nothing is missing; of what the device wrote all of it is.
    let verdict = copy.compare(with: ram.pageDigests())
    #expect(verdict.different == devicePages.map(layout.gpa(ofPage:)))
    #expect(ram.ledger?.pagesOnlyDevicesWrote() == Array(devicePages))
    #expect(cpus.allSatisfy { $0.state.generation > 500 })
  }

  @Test(.enabled(if: WatchedKernel.lacks == nil, WatchedKernel.skipped))
  func `a copy led by the kernel lacks exactly what only a device wrote`() throws {
    let ram = try GuestRAM(layout: layout, ledger: WriteLedger(layout: layout))
    let cpus = (0..<2).map {
      VirtualCPU(
        writer: $0, ram: ram, pattern: WritePattern(pages: 0..<64, hotPageCount: 9), seed: 2,
        pagesPerSecond: 30_000)
    }
    try copyWhileRunning(PagemapScanSource(regions: ram.ramRegions), ram: ram, cpus: cpus)
  }

  @Test func `a copy led by the vCPUs' own marks lacks exactly what only a device wrote`() throws {
    let ram = try GuestRAM(layout: layout, ledger: WriteLedger(layout: layout))
    let source = try MarkedWrites(regions: ram.ramRegions)
    let cpus = (0..<2).map {
      VirtualCPU(
        writer: $0, ram: ram, pattern: WritePattern(pages: 0..<64, hotPageCount: 9), seed: 2,
        pagesPerSecond: 30_000, marks: source.wrote)
    }
    try copyWhileRunning(source, ram: ram, cpus: cpus)
  }
}
