import Addressing
import CPUDirty
import GuestDirtyLog
import Locking
import Testing

/// Every call made to fail in turn.
@Suite(.enabled(if: Kernel.lacks == nil, Kernel.skipped))
struct PagemapFaultTests {
  /// Starts, writes 3 pages, collects, stops. Returns the error and the pages marked.
  private func run(
    _ calls: FaultyCalls, _ memory: SharedPages
  ) throws -> (error: CPUDirtyError?, pages: [UInt64], didStart: Bool) {
    let regions = [
      memory.region("low", pages: 0...7), memory.region("high", at: 0x10_0000, pages: 8...15),
    ]
    let help = try LogWithReader(regions)
    let source = PagemapScanSource(regions: regions, calls: calls)
    var didStart = false
    do {
      try source.start()
      didStart = true
      for page in [1, 6, 9] { memory.write(1, to: page) }
      _ = try source.collect(into: help.log)
      source.stop()
    } catch {
      source.stop()
      return (error, help.take(), didStart)
    }
    return (nil, help.take(), didStart)
  }

  @Test func `each failure is named, leaves nothing open and hides no page`() throws {
    let memory = SharedPages(pageCount: 16)
    let sound = FaultyCalls()
    let all: [UInt64] = [1, 6, 0x101]
    #expect(try run(sound, memory).pages == all)
    #expect(sound.callCount > 10)
    let names = sound.names.withLock { $0 }
    for (index, name) in names.enumerated() {
      let calls = FaultyCalls(failing: index + 1, errno: 5)
      let (error, pages, didStart) = try run(calls, memory)
      #expect(calls.leakedDescriptorCount == 0, "call \(index + 1), \(name)")
      if name == "ioctl UFFDIO_UNREGISTER" {
        #expect(error == nil)
        #expect(pages == all)
      } else {
        #expect(error?.operation == name)
        #expect(error?.errno == 5)
        #expect(error?.detail.isEmpty == false)
        #expect(didStart || pages == [])
      }
      // Nothing is left armed: the same memory can be watched again, and reports all.
      #expect(try run(FaultyCalls(), memory).pages == all, "after call \(index + 1), \(name)")
    }
  }

  @Test func `a collection that fails in the second region has marked the first`() throws {
    let memory = SharedPages(pageCount: 16)
    // Two scans arm, the third reads the first region.
    let calls = FaultyCalls(failing: 4, errno: 14, only: "ioctl PAGEMAP_SCAN")
    let (error, pages, _) = try run(calls, memory)
    #expect(error?.errno == 14)
    #expect(error?.description.contains("PAGEMAP_SCAN failed with EFAULT") == true)
    #expect(pages == [1, 6])
  }
}

/// Kernels that lack it, and kernels that lie.
@Suite struct PagemapRefusalTests {
  @Test(arguments: [
    ("userfaultfd", 38 as Int32), ("userfaultfd", 22), ("userfaultfd", 1), ("ioctl UFFDIO_API", 22),
    ("ioctl UFFDIO_REGISTER", 22), ("ioctl PAGEMAP_SCAN", 25),
  ])
  func `a kernel that lacks it is told which one has it`(operation: String, errno: Int32) {
    let calls = FaultyCalls(failing: 1, errno: errno, only: operation)
    guard case .unavailable(let error) = PagemapScan.availability(calls: calls) else {
      Issue.record("it says that \(operation) works")
      return
    }
    // A kernel that really lacks it fails earlier, by the same rule.
    if Kernel.lacks == nil {
      #expect(error.operation == operation)
      #expect(error.errno == errno)
    }
    #expect(error.detail.contains("Linux 6.7"), "\(error)")
    #expect(calls.leakedDescriptorCount == 0)
  }

  @Test func `a region that is not mapped here is refused before anything is watched`() {
    let gpa = GPARange(first: GPA(0), byteCount: 4096)!
    let calls = FaultyCalls()
    let source = PagemapScanSource(regions: [RAMRegion(name: "far", gpa: gpa)], calls: calls)
    let error = #expect(throws: CPUDirtyError.self) { try source.start() }
    #expect(error?.detail.contains("RAM far") == true)
    #expect(calls.callCount == 0)
  }

  @Test func `a scan that gets nowhere is an error and no endless loop`() {
    let gpa = GPARange(first: GPA(0), byteCount: 1 << 20)!
    let region = RAMRegion(name: "ram", gpa: gpa, hvaFirst: HVA(0x10_0000))
    let source = PagemapScanSource(regions: [region], calls: LyingCalls())
    let error = #expect(throws: CPUDirtyError.self) { try source.start() }
    #expect(error?.detail.contains("without having looked at anything") == true)
  }

  @Test func `pages outside of what was asked are left out`() throws {
    let gpa = GPARange(first: GPA(0), byteCount: 1 << 20)!
    let region = RAMRegion(name: "ram", gpa: gpa, hvaFirst: HVA(0x10_0000))
    var calls = LyingCalls(goesOn: true)
    calls.runs = [
      AddressRange(first: HVA(0), last: HVA(0x10_1fff)),
      AddressRange(first: HVA(0x30_0000), last: HVA(UInt64.max)),
    ]
    let help = try LogWithReader([region])
    let source = PagemapScanSource(regions: [region], calls: calls)
    try source.start()
    #expect(try source.collect(into: help.log) == 2)
    #expect(help.take() == [0, 1])
  }
}
