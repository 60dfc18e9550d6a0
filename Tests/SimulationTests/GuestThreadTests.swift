import Addressing
import Simulation
import Synchronization
import TestSupport
import Testing

@Suite struct GuestThreadTests {
  let layout = GuestLayout(byteCount: 128 * 4096)

  func waitUntil(_ condition: () -> Bool) {
    let clock = ContinuousClock()
    let start = clock.now
    while !condition(), start.duration(to: clock.now) < .seconds(20) { idle(milliseconds: 1) }
  }

  func idle(milliseconds: Int) {
    let clock = ContinuousClock()
    let start = clock.now
    while start.duration(to: clock.now) < .milliseconds(milliseconds) {}
  }

  @Test func `after a pause returns nothing is written, and after a resume it is again`() throws {
    let ram = try GuestRAM(layout: layout)
    let cpus = (0..<2).map { index in
      VirtualCPU(
        writer: UInt64(index), ram: ram,
        pattern: WritePattern(
          pages: UInt64(index) * 64..<UInt64(index) * 64 + 64, hotPageCount: 8), seed: 5)
    }
    for cpu in cpus { try cpu.start() }
    for _ in 0..<20 {
      let before = cpus.map { $0.state.generation }
      waitUntil { zip(cpus, before).allSatisfy { $0.state.generation > $1 } }
      #expect(zip(cpus, before).allSatisfy { $0.state.generation > $1 })
      for cpu in cpus { cpu.pause() }
      let stopped = cpus.map(\.state)
      let digests = ram.pageDigests()
      idle(milliseconds: 1)
      #expect(cpus.map(\.state) == stopped)
      #expect(ram.pageDigests() == digests)
      for cpu in cpus { cpu.resume() }
    }
    for cpu in cpus { cpu.stop() }
    for (index, cpu) in cpus.enumerated() {
      let headers = (0..<layout.pageCount).compactMap { ram.header(ofPage: $0) }
        .filter { $0.writer == UInt64(index) }
      #expect(headers.map(\.generation).max() == cpu.state.generation)
    }
  }

  @Test func `hot writers and a device keep whole headers, and each page its last write`() throws {
    let ram = try GuestRAM(layout: layout)
    let marks = Mutex<[UInt64: Set<GPA>]>([:])
    let cpus = (0..<2).map { index in
      VirtualCPU(
        writer: UInt64(index), ram: ram,
        pattern: WritePattern(pages: 0..<128, hotPageCount: 2, bodyWordCount: 0), seed: 6,
        marks: { range in
          marks.withLock { _ = $0[UInt64(index), default: []].insert(range.first) }
        })
    }
    for cpu in cpus { try cpu.start() }
    waitUntil { cpus.allSatisfy { $0.state.generation > 3000 } }
    for cpu in cpus { cpu.stop() }
    for page in 0..<layout.pageCount {
      let header = try #require(ram.header(ofPage: page))
      // Two writers at once may each win a word, but a word is never torn.
      #expect(header.address == layout.gpa(ofPage: page).rawValue)
      #expect(header.writer < 2)
      #expect(header.generation <= cpus.map(\.state.generation).max() ?? 0)
    }
    let marked = marks.withLock { $0 }
    #expect(marked[0]?.count == 128 && marked[1]?.count == 128)
  }

  @Test func `every write is marked, after it is in memory`() throws {
    let ledger = WriteLedger(layout: layout)
    let ram = try GuestRAM(layout: layout, ledger: ledger)
    let marked = Mutex<Set<UInt64>>([])
    let layout = layout
    let late = Mutex(0)
    let generation = Mutex<UInt64>(0)
    let cpu = VirtualCPU(
      writer: 9, ram: ram, pattern: WritePattern(pages: 32..<96, hotPageCount: 3), seed: 7,
      marks: { range in
        guard let page = layout.page(of: range.first) else { return }
        let expected = generation.withLock { value in
          value += 1
          return value
        }
        if ram.header(ofPage: page)?.generation != expected { late.withLock { $0 += 1 } }
        marked.withLock { _ = $0.insert(page) }
      })
    for _ in 0..<500 { cpu.step() }
    #expect(late.withLock { $0 } == 0)
    let pages = marked.withLock { $0 }
    #expect(UInt64(pages.count) == ledger.pageCount(writtenBy: .vcpu))
    #expect(pages.allSatisfy { ledger.contains(page: $0, writtenBy: .vcpu) })
    #expect(pages == Set(32..<96))
    #expect(ledger.pagesOnlyDevicesWrote().isEmpty)
  }

  @Test func `a restored vCPU goes on as the one it was would have`() throws {
    let pattern = WritePattern(pages: 3..<120, hotPageCount: 10, bodyWordCount: 5)
    let source = try GuestRAM(layout: layout)
    let target = try GuestRAM(layout: layout)
    let before = VirtualCPU(writer: 1, ram: source, pattern: pattern, seed: 8)
    for _ in 0..<77 { before.step() }
    let after = VirtualCPU(writer: 1, ram: target, pattern: pattern, seed: 999)
    for _ in 0..<3 { after.step() }
    try after.restore(before.state.encoded())
    for _ in 0..<600 {
      before.step()
      after.step()
    }
    #expect(after.state == before.state && before.state.generation == 677)
    #expect(source.compare(with: target.pageDigests()).different.isEmpty)
    let other = VirtualCPU(writer: 1, ram: target, pattern: pattern, seed: 9)
    for _ in 0..<677 { other.step() }
    #expect(!source.compare(with: target.pageDigests()).different.isEmpty)
  }

  @Test func `a state that is cut, foreign or another's is refused and changes nothing`() throws {
    let ram = try GuestRAM(layout: layout)
    let cpu = VirtualCPU(writer: 1, ram: ram, pattern: WritePattern(pages: 0..<9), seed: 8)
    for _ in 0..<5 { cpu.step() }
    let state = cpu.state
    let good = state.encoded()
    var foreign = good
    foreign[0] ^= 1
    let other = VirtualCPU(writer: 2, ram: ram, pattern: WritePattern(pages: 0..<9), seed: 8)
    for bad in [[], Array(good.dropLast()), good + [0], foreign, other.state.encoded()] {
      #expect(throws: GuestError.self) { try cpu.restore(bad) }
      #expect(cpu.state == state)
    }
    try cpu.restore(good)
    #expect(cpu.state == state)
  }

  @Test func `a thread starts paused, keeps its rate, and stops from every state`() throws {
    let count = Mutex(0)
    let thread = StepThread(name: "test", stepsPerSecond: 1000) { count.withLock { $0 += 1 } }
    thread.pause()
    try thread.start()
    idle(milliseconds: 2)
    #expect(count.withLock { $0 } == 0)
    let clock = ContinuousClock()
    let start = clock.now
    thread.resume()
    waitUntil { thread.stepCount >= 30 }
    thread.pause()
    let elapsed = start.duration(to: clock.now)
    // The first step is due at once; each other a millisecond after the one before.
    #expect(elapsed >= .milliseconds(Int(thread.stepCount) - 1 - 1))
    #expect(UInt64(count.withLock { $0 }) == thread.stepCount && thread.stepCount >= 30)
    thread.pause()
    thread.stop()
    thread.stop()
    thread.resume()
    #expect(UInt64(count.withLock { $0 }) == thread.stepCount)
    let running = StepThread(name: "test", stepsPerSecond: 0) {}
    try running.start()
    waitUntil { running.stepCount > 0 }
    running.stop()
    let slow = StepThread(name: "test", stepsPerSecond: 1) {}
    try slow.start()
    waitUntil { slow.stepCount == 1 }
    slow.pause()
    slow.stop()
    #expect(slow.stepCount == 1 && running.stepCount > 0)
    StepThread(name: "never started", stepsPerSecond: 1) {}.stop()
  }

  @Test func `one seed is one order, and weights are kept`() {
    func order(_ seed: UInt64) -> [String] {
      var scheduler = SeededScheduler(seed: seed)
      scheduler.add("a") {}
      scheduler.add("b", weight: 3) {}
      return (0..<4000).map { _ in scheduler.step() }
    }
    #expect(order(1) == order(1))
    #expect(order(1) != order(2))
    let share = order(3).count { $0 == "b" }
    #expect((2800...3200).contains(share))
  }
}
