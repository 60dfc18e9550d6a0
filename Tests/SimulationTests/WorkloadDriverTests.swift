import Addressing
import Glibc
import IOVAMapping
import Simulation
import Locking
import TestSupport
import Testing

@Suite struct WorkloadDriverTests {
  let layout = GuestLayout(byteCount: 512 * 4096)

  @Test(arguments: IOMMUBehaviour.allCases)
  func `what is offered to devices is what is mapped writable`(behaviour: IOMMUBehaviour) {
    let listener = WorkloadListener(policy: .split)
    let driver = GuestDriver(
      stream: IOMMUStream(behaviour: behaviour, seed: 41, layout: layout), layout: layout,
      listener: listener)
    for step in 0..<3000 {
      driver.step()
      guard step % 37 == 0 || step > 2950 else { continue }
      let offered = driver.buffers.buffers
      #expect(Set(offered).count == offered.count)
      let isPassThrough = listener.state.withLock { $0.isPassThrough }
      if isPassThrough {
        #expect(offered.map(\.first.rawValue).sorted() == layout.regions.map(\.gpa.first.rawValue))
      } else if behaviour == .remapInPlace {
        // The table keeps what the guest meant to replace; the guest no longer offers it.
        #expect(Set(offered).isSubset(of: listener.writable))
      } else {
        #expect(Set(offered) == listener.writable)
        #expect(Set(driver.mappings.filter(\.isWritable).map(\.iova)) == listener.writable)
      }
      #expect(driver.isPassThrough == isPassThrough)
    }
    #expect((driver.counts.refusalCount > 0) == !behaviour.isAccepted(by: .split))
    driver.unmapEverything()
    #expect(driver.buffers.count == 0 && driver.mappingCount == 0)
    if behaviour != .remapInPlace { #expect(listener.writable.isEmpty) }
    for _ in 0..<500 { driver.step() }
    #expect((driver.counts.refusalCount > 0) == !behaviour.isAccepted(by: .split))
  }

  /// Asks, during each call, what is offered.
  final class Witness: IOMMUListener {
    let buffers = Mutex<MappedBuffers?>(nil)
    let violations = Mutex(0)
    let calls = Mutex(0)

    func check(_ range: IOVARange) {
      let offered = buffers.withLock { $0 }?.buffers ?? []
      calls.withLock { $0 += 1 }
      if offered.contains(where: { $0.overlaps(range) }) { violations.withLock { $0 += 1 } }
    }
    func map(_ iova: IOVARange, to gpa: GPA, permissions: Permissions) throws(IOMMURefusal) {
      check(iova)
    }
    func unmap(_ iova: IOVARange) throws(IOMMURefusal) { check(iova) }
    func setPassThrough(_ isOn: Bool) throws(IOMMURefusal) { check(.wholeSpace) }
  }

  @Test func `a buffer is offered after its map and withdrawn before its unmap`() {
    let witness = Witness()
    let driver = GuestDriver(
      stream: IOMMUStream(behaviour: .mixed, seed: 42, layout: layout), layout: layout,
      listener: witness)
    witness.buffers.withLock { $0 = driver.buffers }
    for _ in 0..<3000 { driver.step() }
    #expect(witness.violations.withLock { $0 } == 0 && witness.calls.withLock { $0 } > 2000)
    // The witness can see a violation: the whole space overlaps whatever is offered.
    while driver.buffers.count == 0 { driver.step() }
    witness.check(.wholeSpace)
    #expect(witness.violations.withLock { $0 } == 1)
  }

  @Test func `a refused map is not offered, and the refusal is told`() throws {
    let listener = WorkloadListener()
    let driver = GuestDriver(
      stream: IOMMUStream(behaviour: .strict, seed: 43, layout: layout), layout: layout,
      listener: listener)
    listener.refuseNext()
    driver.step()
    #expect(driver.buffers.count == 0 && driver.mappingCount == 0)
    let refusal = try #require(driver.counts.lastRefusal)
    #expect(driver.counts.refusalCount == 1 && refusal.reason == "told to refuse")
    #expect(refusal.description.hasPrefix("map 0x"))
    for _ in 0..<2000 { driver.step() }
    #expect(driver.counts.refusalCount == 1)
    #expect(Set(driver.buffers.buffers) == listener.writable)
  }

  @Test func `picked pages lie in a buffer and reach every page of it`() throws {
    let driver = GuestDriver(
      stream: IOMMUStream(behaviour: .strict, seed: 44, layout: layout), layout: layout,
      listener: WorkloadListener())
    var random = SplitMix64(seed: 1)
    #expect(driver.buffers.pickPages(byteCountMax: 4096, &random) == nil)
    for _ in 0..<200 { driver.step() }
    let buffers = driver.buffers.buffers
    var reached: Set<UInt64> = []
    for _ in 0..<20000 {
      let pages = try #require(driver.buffers.pickPages(byteCountMax: 3 * 4096, &random))
      #expect(pages.isAligned(to: .fourKiB) && pages.pageCount(.fourKiB) <= 3)
      #expect(buffers.contains { $0.contains(pages) })
      for page in pages.first.rawValue / 4096...pages.last.rawValue / 4096 { reached.insert(page) }
    }
    #expect(UInt64(reached.count) == buffers.reduce(0) { $0 + $1.pageCount(.fourKiB) })
  }

  struct Run: Equatable {
    var digests: [UInt64]
    var deviceOnly: [UInt64]
    var written: UInt64
    var log: [IOMMUEvent]
  }

  func run(seed: UInt64) throws -> Run {
    let ledger = WriteLedger(layout: layout)
    let ram = try GuestRAM(layout: layout, ledger: ledger)
    let listener = WorkloadListener(ram: ram)
    let driver = GuestDriver(
      stream: IOMMUStream(behaviour: .mixed, seed: seed, layout: layout), layout: layout,
      listener: listener)
    let device = DeviceTraffic(writer: 100, port: listener, buffers: driver.buffers, seed: seed)
    let cpu = VirtualCPU(
      writer: 0, ram: ram, pattern: WritePattern(pages: 0..<256, hotPageCount: 16), seed: seed)
    var scheduler = SeededScheduler(seed: seed)
    scheduler.add("vCPU", step: cpu.step)
    scheduler.add("device", weight: 2, step: device.step)
    scheduler.add("driver", weight: 4, step: driver.step)
    scheduler.run(stepCount: 4000)
    #expect(device.missedPageCount == 0)
    #expect(device.generation == device.writtenPageCount)
    return Run(
      digests: ram.pageDigests(), deviceOnly: ledger.pagesOnlyDevicesWrote(),
      written: device.writtenPageCount, log: listener.log)
  }

  @Test func `one seed is one run of the whole machine`() throws {
    let first = try run(seed: 7)
    #expect(first == (try run(seed: 7)))
    #expect(first != (try run(seed: 8)))
    #expect(first.written > 500 && first.deviceOnly.count > 100)
  }

  @Test func `driver, devices and vCPUs in threads leave whole pages where they say`() throws {
    let ledger = WriteLedger(layout: layout)
    let ram = try GuestRAM(layout: layout, ledger: ledger)
    let listener = WorkloadListener(ram: ram)
    let driver = GuestDriver(
      stream: IOMMUStream(behaviour: .strict, seed: 9, layout: layout), layout: layout,
      listener: listener)
    let devices = (0..<2).map {
      DeviceTraffic(
        writer: 100 + UInt64($0), port: listener, buffers: driver.buffers, seed: 9,
        bodyWordCount: 0)
    }
    var threads = [StepThread(name: "driver", stepsPerSecond: 0, step: driver.step)]
    for device in devices {
      threads.append(StepThread(name: "device", stepsPerSecond: 0, step: device.step))
    }
    for thread in threads { try thread.start() }
    let clock = ContinuousClock()
    let start = clock.now
    while devices.contains(where: { $0.writtenPageCount < 1500 }),
      start.duration(to: clock.now) < .seconds(20)
    { usleep(1000) }
    for thread in threads { thread.stop() }
    var found = 0
    for page in 0..<layout.pageCount {
      guard let header = ram.header(ofPage: page) else { continue }
      found += 1
      let device = try #require(devices.first { $0.writer == header.writer })
      #expect(header.generation <= device.generation)
      #expect(ledger.contains(page: page, writtenBy: .device))
    }
    #expect(found > 200 && UInt64(found) == ledger.pageCount(writtenBy: .device))
    #expect(driver.counts.refusalCount == 0)
  }
}
