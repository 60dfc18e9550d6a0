import Addressing
import Glibc
import Simulation
import Locking
import TestSupport
import Testing

@Suite struct GuestThreadTests {
  let layout = GuestLayout(byteCount: 128 * 4096)

  func waitUntil(_ condition: () -> Bool) {
    let clock = ContinuousClock()
    let start = clock.now
    while !condition(), start.duration(to: clock.now) < .seconds(20) { idle(milliseconds: 1) }
  }

  func idle(milliseconds: UInt32) { usleep(milliseconds * 1000) }

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

  /// What one vCPU says it wrote: by page, how many writes it had made by then.
  final class Witness: Sendable {
    private let inner = Mutex<(count: UInt64, last: [GPA: UInt64])>((0, [:]))

    func mark(_ range: GPARange) {
      inner.withLock { inner in
        inner.count += 1
        inner.last[range.first] = inner.count
      }
    }
    var count: UInt64 { inner.withLock { $0.count } }
    var last: [GPA: UInt64] { inner.withLock { $0.last } }
  }

  @Test func `in threads each page holds the last write that was marked for it`() throws {
    let ram = try GuestRAM(layout: layout)
    let witnesses = [Witness(), Witness()]
    let cpus = witnesses.enumerated().map { index, witness in
      VirtualCPU(
        writer: UInt64(index), ram: ram,
        pattern: WritePattern(
          pages: UInt64(index) * 64..<UInt64(index) * 64 + 64, hotPageCount: 2, bodyWordCount: 0),
        seed: 6, marks: witness.mark)
    }
    for cpu in cpus { try cpu.start() }
    for cpu in cpus {
      waitUntil { cpu.state.generation > 2000 }
      cpu.pause()
      cpu.resume()
    }
    for cpu in cpus { cpu.stop() }
    for (index, witness) in witnesses.enumerated() {
      #expect(witness.count == cpus[index].state.generation && witness.count > 2000)
      let last = witness.last
      #expect(last.count == 64)
      for page in UInt64(index) * 64..<UInt64(index) * 64 + 64 {
        let header = try #require(ram.header(ofPage: page))
        let gpa = layout.gpa(ofPage: page)
        #expect(header.writer == UInt64(index) && header.address == gpa.rawValue)
        #expect(header.generation == last[gpa])
      }
    }
  }

  @Test func `two writers and a device on the same pages never tear a word`() throws {
    let ram = try GuestRAM(layout: GuestLayout(byteCount: 8192))
    let hot = WritePattern(pages: 0..<2, hotPageCount: 1, bodyWordCount: 0)
    let cpus = (0..<2).map { VirtualCPU(writer: UInt64($0), ram: ram, pattern: hot, seed: 7) }
    let generation = Mutex<UInt64>(0)
    let device = StepThread(name: "device", stepsPerSecond: 0) {
      let value = generation.withLock { value in
        value += 1
        return value
      }
      var content: [UInt8] = []
      let header = PageHeader(writer: 2, generation: value, address: 0)
      for index in 0..<4 {
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
          content.append(UInt8(truncatingIfNeeded: header.words[index] >> shift))
        }
      }
      _ = TestBytes.with(content) { ram.write($0, at: GPA(0)) }
    }
    for cpu in cpus { try cpu.start() }
    try device.start()
    var checked = 0
    waitUntil {
      if let header = ram.header(ofPage: 0) {
        checked += 1
        if header.writer > 2 || header.address != 0 { Issue.record("torn: \(header)") }
        if header.generation > 1 << 32 { Issue.record("torn: \(header)") }
      }
      return checked > 20 && device.stepCount > 1000
        && cpus.allSatisfy { $0.state.generation > 1000 }
    }
    for cpu in cpus { cpu.stop() }
    device.stop()
    #expect(checked > 20)
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
