import Addressing
import DMAContainer
import Locking
import PageBitmap
import Simulation
import TestSupport
import Testing
import VFIOKernel

/// GET_INFO as a kernel might answer it.
private final class ScriptedInformation: VFIOCalls {
  private let answer: [UInt8]
  private let state = Mutex<[Int]>([])
  let wantsMoreEachTime: Bool

  init(_ answer: [UInt8], wantsMoreEachTime: Bool = false) {
    self.answer = answer
    self.wantsMoreEachTime = wantsMoreEachTime
  }

  /// The argsz of each question.
  var rooms: [Int] { state.withLock { $0 } }

  func open(_ path: String) -> Int32 { -2 }
  func close(_ descriptor: Int32) {}
  func control(_ descriptor: Int32, _ request: VFIORequest, value: Int) -> Int32 { 0 }
  func control(
    _ descriptor: Int32, _ request: VFIORequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    guard request == .getInformation else { return -25 }
    var bytes = Bytes(FakeMemory.bytes(argument))
    let room = Int(bytes.u32(0))
    state.withLock { $0.append(room) }
    if wantsMoreEachTime {
      bytes.store(UInt32(room + 8), 0)
    } else if room < answer.count {
      bytes.bytes.replaceSubrange(0..<24, with: answer.prefix(24))
      bytes.store(0 as UInt32, 16)
      bytes.store(UInt32(answer.count), 0)
    } else {
      bytes.bytes.replaceSubrange(0..<answer.count, with: answer)
    }
    FakeMemory.store(bytes.bytes, to: &argument)
    return 0
  }
  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan) -> Int { -9 }
  func write(_ descriptor: Int32, _ bytes: RawSpan) -> Int { -9 }
  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan, at offset: UInt64) -> Int { -9 }
  func write(_ descriptor: Int32, _ bytes: RawSpan, at offset: UInt64) -> Int { -9 }
  func map(_ descriptor: Int32, offset: UInt64, byteCount: UInt64) -> Int { -9 }
  func unmap(address: UInt64, byteCount: UInt64) {}
}

@Suite struct Type1InformationTests {
  /// The fixed part, claiming all of `chain`.
  static func answer(_ chain: [UInt8], first: UInt32 = 24, flags: UInt32 = 3) -> [UInt8] {
    Bytes.structure(
      UInt32(24 + chain.count), flags, 0x4020_1000 as UInt64, first, 0 as UInt32) + chain
  }

  static func migration(next: UInt32, pageSizes: UInt64 = 4096, bytes: UInt64 = 1 << 28) -> [UInt8]
  {
    Bytes.structure(2 as UInt16, 1 as UInt16, next, 0 as UInt32, 0 as UInt32, pageSizes, bytes)
  }

  private func container(
    _ answer: [UInt8]
  ) throws(VFIOError) -> (Type1Container, ScriptedInformation) {
    let calls = ScriptedInformation(answer)
    let container = try Type1Container(
      name: "vm", adopting: VFIODescriptor(7, ownership: .borrowed, calls: calls))
    return (container, calls)
  }

  @Test func `the chain of a kernel is read in full`() throws {
    let ranges = Bytes.structure(
      1 as UInt16, 1 as UInt16, 0 as UInt32, 2 as UInt32, 0 as UInt32, 0 as UInt64,
      0xfedf_ffff as UInt64, 0xfef0_0000 as UInt64, UInt64.max)
    let available = Bytes.structure(
      3 as UInt16, 1 as UInt16, 72 as UInt32, 65_535 as UInt32, 0 as UInt32)
    let (container, calls) = try container(
      Self.answer(Self.migration(next: 56) + available + ranges))
    let capabilities = container.capabilities
    #expect(capabilities.pageSizes == PageSizeSet(.fourKiB, .twoMiB, .oneGiB))
    #expect(capabilities.mappingCountMax == 65_535)
    #expect(capabilities.unmapBitmapByteCountMax == 1 << 28)
    #expect(capabilities.hasAtomicUnmap)
    #expect(
      capabilities.validRanges == [
        AddressRange(first: IOVA(0), last: IOVA(0xfedf_ffff)),
        AddressRange(first: IOVA(0xfef0_0000), last: IOVA(.max)),
      ])
    #expect(container.dirtyLogs[0].capabilities.scope == .everythingMapped)
    #expect(calls.rooms.count == 1)
  }

  @Test func `a long chain is asked for again with the room it needs`() throws {
    var ranges = Bytes.structure(
      1 as UInt16, 1 as UInt16, 0 as UInt32, 100 as UInt32, 0 as UInt32)
    for index in 0..<100 as Range<UInt64> {
      ranges += Bytes.structure(index << 20, index << 20 | 0xffff)
    }
    let (container, calls) = try container(Self.answer(ranges))
    #expect(container.capabilities.validRanges.count == 100)
    #expect(calls.rooms == [1024, 24 + 16 + 1600])
  }

  @Test func `without the migration capability there is no tracker, and it is said`() throws {
    for answer in [
      Self.answer([], first: 0, flags: 1), Self.answer([], first: 0),
      Self.answer(Self.migration(next: 0, pageSizes: 0x800)),
      Self.answer(Self.migration(next: 0, bytes: 7)),
    ] {
      let (container, _) = try container(answer)
      #expect(!container.capabilities.hasAtomicUnmap)
      #expect(container.dirtyLogs.map(\.capabilities.scope) == [.everythingMapped])
      #expect(container.takeWarnings().count == 1)
      // Nothing is asked of a kernel that has no log: it would be refused.
      let log = container.dirtyLogs[0]
      try log.start(logging: [], pageSize: .fourKiB)
      var bitmap = ContainerDriver.bitmap(Type1World.range(0x10, 65))
      try log.query(&bitmap, clear: true)
      #expect(bitmap.dirtyCount == 65)
      try log.stop()
    }
  }

  @Test func `no limit is no limit`() throws {
    let unlimited = Bytes.structure(
      3 as UInt16, 1 as UInt16, 0 as UInt32, UInt32.max, 0 as UInt32)
    let (container, _) = try container(Self.answer(unlimited))
    #expect(container.capabilities.mappingCountMax == nil)
  }

  @Test(arguments: [
    ("before itself", Self.answer(Self.migration(next: 24))),
    ("into the structure", Self.answer(Self.migration(next: 0), first: 8)),
    ("past the end", Self.answer(Self.migration(next: 5000))),
    ("far past the end", Self.answer(Self.migration(next: .max))),
    ("into the last bytes", Self.answer(Self.migration(next: 54))),
    (
      "to a capability that is cut",
      Self.answer(Self.migration(next: 56) + [3, 0, 1, 0, 0, 0, 0, 0])
    ),
    (
      "to more ranges than there are bytes",
      Self.answer(
        Bytes.structure(1 as UInt16, 1 as UInt16, 0 as UInt32, UInt32.max, 0 as UInt32))
    ),
    (
      "to a range that ends before it begins",
      Self.answer(
        Bytes.structure(
          1 as UInt16, 1 as UInt16, 0 as UInt32, 1 as UInt32, 0 as UInt32, 2 as UInt64, 1 as UInt64)
      )
    ),
  ])
  func `a chain that leads astray is an error`(where place: String, answer: [UInt8]) {
    let error = #expect(throws: VFIOError.self) { try container(answer) }
    #expect(error?.operation == "VFIO_IOMMU_GET_INFO", "\(place)")
    #expect(error?.errno == 0 && error?.detail.isEmpty == false)
  }

  @Test func `a kernel that always wants more is not asked for ever`() {
    let calls = ScriptedInformation([], wantsMoreEachTime: true)
    let error = #expect(throws: VFIOError.self) {
      try Type1Container(
        name: "vm", adopting: VFIODescriptor(7, ownership: .borrowed, calls: calls))
    }
    #expect(error?.detail == "the kernel wants more room each time it is asked")
    #expect(calls.rooms.count == 4)
  }

  @Test func `no damage to a chain does worse than an error`() {
    let seed = TestSeed.seed(default: 311)
    var random = SeededGenerator(seed: seed)
    let ranges = Bytes.structure(
      1 as UInt16, 1 as UInt16, 0 as UInt32, 1 as UInt32, 0 as UInt32, 0 as UInt64, 9 as UInt64)
    let sound = Self.answer(Self.migration(next: 56) + ranges)
    var refused = 0
    for _ in 0..<3000 {
      var answer = sound
      for _ in 0...random.below(3) {
        let index = 4 + random.below(answer.count - 4)
        answer[index] = UInt8(truncatingIfNeeded: random.next() >> random.below(60 as UInt64))
      }
      do { _ = try container(answer) } catch { refused += 1 }
    }
    #expect(refused > 100 && refused < 2900)
  }
}
