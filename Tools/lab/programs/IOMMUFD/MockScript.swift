import Addressing
import DMAContainer
import IOMMUFD
import KernelTestSupport
import PageBitmap
import Simulation

/// One script of calls, to the kernel's iommufd and to the simulated one, compared line by line.
enum MockScript {
  static let pageCount: UInt64 = 256
  static let callCount = 400

  enum Call: Hashable {
    case map(IOVARange, gpaPage: UInt64, Permissions)
    case unmap(IOVARange)
    case query(IOVARange, clear: Bool)
    case write(UInt64)
  }

  /// What can not write: the memory of a simulated container whose dirt is all that matters.
  private final class NoMemory: SimulatedMemory {
    func write(_ bytes: RawSpan, at gpa: GPA) -> Bool { true }
    func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool { true }
  }

  /// One of the two.
  private final class Subject {
    let container: any DMAContainer
    let hva: UInt64
    /// Nil where no device writes.
    let log: (any DirtyLog)?
    /// Writes to one page.
    let write: (IOVA) throws -> Bool

    init(
      _ container: any DMAContainer, hva: UInt64, log: (any DirtyLog)?,
      write: @escaping (IOVA) throws -> Bool
    ) {
      self.container = container
      self.hva = hva
      self.log = log
      self.write = write
    }

    func answer(_ call: Call, base: UInt64) throws -> String {
      do {
        switch call {
        case .map(let range, let gpaPage, let permissions):
          try container.map(
            MapRequest(
              iova: range, gpaFirst: GPA(gpaPage << 12), hvaFirst: HVA(hva + gpaPage << 12),
              permissions: permissions))
          return "ok"
        case .unmap(let range): return "ok, \(try container.unmap(range)) bytes"
        case .query(let range, let clear):
          guard let log else { return "no log" }
          var bitmap = try QueryBitmap(byteCountMax: 1 << 20)
          try bitmap.reset(window: range, pageSize: .fourKiB)
          try log.query(&bitmap, clear: clear)
          var pages: [UInt64] = []
          bitmap.forEachDirtyRun {
            pages += ($0.first.rawValue >> 12...$0.last.rawValue >> 12).map { $0 - base >> 12 }
          }
          return "ok, dirty \(pages)"
        case .write(let page): return try write(IOVA(base + page << 12)) ? "written" : "refused"
        }
      } catch let error as ContainerError {
        return ContainerErrno.name(error.errno) + (error.isPartial ? " (partial)" : "")
      }
    }
  }

  /// The known edges, then what the seed gives.
  private static func calls(base: UInt64, _ random: inout SplitMix64) -> [Call] {
    func pages(_ first: UInt64, _ count: UInt64) -> IOVARange {
      AddressRange(first: IOVA(base + first << 12), last: IOVA(base + (first + count) << 12 - 1))
    }
    func bytes(_ first: UInt64, _ last: UInt64) -> IOVARange {
      AddressRange(first: IOVA(base + first), last: IOVA(base + last))
    }
    let a = pages(0, 70)
    let b = pages(70, 10)
    var calls: [Call] = [
      .query(a, clear: true), .unmap(a), .map(a, gpaPage: 0, .readWrite),
      .map(a, gpaPage: 0, .readWrite), .map(pages(69, 2), gpaPage: 0, .readWrite),
      .map(bytes(0x200_0100, 0x200_10ff), gpaPage: 0, .readWrite),
      .map(bytes(0x200_0000, 0x200_00ff), gpaPage: 0, .readWrite), .map(b, gpaPage: 16, []),
      .map(AddressRange(first: IOVA(0x1000), last: IOVA(0x1fff)), gpaPage: 0, .readWrite),
      .map(
        AddressRange(first: IOVA(1 << 60), last: IOVA(1 << 60 + 4095)), gpaPage: 0, .readWrite),
      .write(0), .write(69), .query(a, clear: false), .query(a, clear: true),
      .query(a, clear: true), .map(b, gpaPage: 16, .read), .write(5), .write(64),
      .query(pages(0, 80), clear: true), .query(pages(60, 64), clear: true),
      .unmap(pages(0, 64)), .unmap(pages(1, 69)), .unmap(bytes(0x80, 0x17f)), .unmap(pages(0, 100)),
      .unmap(a), .unmap(b), .map(a, gpaPage: 0, .readWrite), .query(a, clear: true),
      .unmap(.wholeSpace), .unmap(.wholeSpace),
    ]
    var mapped: [IOVARange] = []
    for _ in 0..<callCount {
      let first = random.below(pageCount)
      let range = pages(first, min(1 + random.below(UInt64(80)), pageCount - first))
      let known = mapped.isEmpty ? range : mapped[random.below(mapped.count)]
      switch random.below(10) {
      case 0, 1, 2:
        let permissions: Permissions = random.once(in: 4) ? .read : .readWrite
        calls.append(.map(range, gpaPage: random.below(UInt64(256)), permissions))
        mapped.append(range)
      case 3: calls.append(.unmap(random.once(in: 2) ? known : range))
      case 4: calls.append(.query(range, clear: random.once(in: 2)))
      case 5: calls.append(.query(pages(0, pageCount), clear: random.once(in: 2)))
      case 6: calls.append(.query(known, clear: random.once(in: 2)))
      default: calls.append(.write(random.below(pageCount)))
      }
    }
    return calls
  }

  private static func compare(
    _ name: String, _ calls: [Call], kernel: Subject, simulation: Subject, base: UInt64,
    isFaulty: Bool = false, _ result: inout LabResult
  ) throws {
    var differences: [String] = []
    for (index, call) in calls.enumerated() {
      let simulated = try simulation.answer(call, base: base)
      let real = try kernel.answer(call, base: base)
      if real != simulated {
        differences.append("call \(index), \(call): kernel \(real); simulation \(simulated)")
      }
    }
    if isFaulty {
      result.check(
        "\(name): a write that the kernel is not told of is noticed", !differences.isEmpty)
      return
    }
    for line in differences.prefix(20) { print("  \(line)") }
    result.check(
      "\(name): \(calls.count) calls are answered alike", differences.isEmpty,
      "\(differences.count) differ")
  }

  /// With the mock device.
  static func run(_ random: inout SplitMix64, _ result: inout LabResult) throws {
    for script in 0..<4 {
      let world = try MockWorld(byteCount: 4 << 20)
      try compare(
        "script \(script) to the mock", calls(base: MockWorld.base, &random), world,
        .init(.fourKiB),
        &result)
    }
    let world = try MockWorld(byteCount: 4 << 20)
    try compare(
      "script to the mock", calls(base: MockWorld.base, &random), world, .init(.fourKiB),
      isFaulty: true, &result)
  }

  /// Entries of 1 MiB, in which windows begin and end.
  static func runHuge(_ result: inout LabResult) throws {
    let world = try MockWorld(byteCount: 64 << 20, isHuge: true)
    var calls: [Call] = [.map(MockWorld.pages(0, 2048), gpaPage: 0, .readWrite)]
    for (first, count): (UInt64, UInt64) in [
      (0, 2048), (0, 100), (0, 256), (1, 255), (1, 256), (1, 700), (255, 2), (200, 1000),
      (256, 256), (300, 20), (2047, 1),
    ] {
      calls += [.write(3), .write(300), .write(2047)]
      for clear in [false, true, true] {
        calls.append(.query(MockWorld.pages(first, count), clear: clear))
      }
      calls.append(.query(MockWorld.pages(0, 2048), clear: true))
    }
    try compare(
      "script to huge entries", calls, world, PageSizeSet(mask: 0x10_1000), &result)
  }

  /// The mock's bits are set where a simulated device could write: it sets a bit of whatever is
  /// mapped, a device only where it may.
  private static func compare(
    _ name: String, _ calls: [Call], _ world: MockWorld, _ entrySizes: PageSizeSet,
    isFaulty: Bool = false, _ result: inout LabResult
  ) throws {
    let simulated = SimulatedIOMMUFD(
      memory: NoMemory(), validRanges: world.container.capabilities.validRanges)
    let hwpt = simulated.allocateHWPT("mock 0", entrySizes: entrySizes)
    let port = simulated.attachDevice("mock 0", to: hwpt)
    try world.logs[0].start(logging: [], pageSize: .fourKiB)
    try hwpt.start(logging: [], pageSize: .fourKiB)
    let last = LastWrite()
    try compare(
      name, calls,
      kernel: Subject(world.container, hva: world.memory.address, log: world.logs[0]) { iova in
        guard last.wasAllowed else { return false }
        if isFaulty { return true }
        try world.devices[0].write(
          to: world.logs[0], in: AddressRange(first: iova, last: iova.lastOfPage(.fourKiB))
        ) { _ in true }
        return true
      },
      simulation: Subject(simulated, hva: world.memory.address, log: hwpt) { iova in
        last.wasAllowed = port.store([1], at: iova)
        return last.wasAllowed
      },
      base: MockWorld.base, isFaulty: isFaulty, &result)
  }

  /// The rules of maps and unmaps on the iommufd of a real device, which has no dirty bits.
  static func runOnEdu(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    var random = SplitMix64(seed: arguments.first.flatMap { UInt64($0) } ?? 1)
    let memory = try LabMemory(byteCount: 4 << 20)
    let container = try IOMMUFDContainer()
    let device = try container.attachDevice("edu", path: EduDevice.characterDevice())
    print("  \(device.log.name)")
    let exact = device.log.capabilities.scope == .iommuHardware
    result.check("edu has an exact log, or says why not", exact != !container.notes.isEmpty)
    for script in 0..<4 {
      let simulated = SimulatedIOMMUFD(
        memory: NoMemory(), validRanges: container.capabilities.validRanges)
      let base: UInt64 = 1 << 28
      try compare(
        "script \(script) to edu", calls(base: base, &random),
        kernel: Subject(container, hva: memory.address, log: nil) { _ in false },
        simulation: Subject(simulated, hva: memory.address, log: nil) { _ in false }, base: base,
        &result)
      _ = try container.unmap(.wholeSpace)
    }
    return result
  }
}

/// Whether the simulated device could make the last write.
private final class LastWrite {
  var wasAllowed = false
}
