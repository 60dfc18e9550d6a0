import Addressing
import DMAContainer
import PageBitmap
import Simulation
import TestSupport
import Testing

/// What each fault leaves behind.
@Suite struct ContainerFaultTests {
  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }

  /// A container with mappings at pages 0x100 and 0x108, both written, its logs started.
  func started(_ kind: ContainerKind, _ faults: FaultPlan) throws -> (ContainerDriver, any DMAPort)
  {
    let (container, port, memory) = kind.make(faults: faults)
    let driver = ContainerDriver(container)
    try driver.map(Self.range(0x100, 4), to: memory.gpa.first)
    try driver.map(Self.range(0x108, 4), to: GPA(memory.gpa.first.rawValue + 0x8000))
    try driver.start(logging: [Self.range(0, 0x200)])
    #expect(port.write([1], at: IOVA(0x10_1000)) != nil)
    #expect(port.write([1], at: IOVA(0x10_9000)) != nil)
    return (driver, port)
  }

  @Test func `calls are counted by kind and the named one fails`() throws {
    let faults = FaultPlan([.init(.map, ordinal: 2, errno: ContainerErrno.enomem)])
    let container = SimulatedIOMMUFD(memory: ContainerTestMemory(), faults: faults)
    for page in [0x100, 0x101, 0x102] as [UInt64] {
      let request = MapRequest(
        iova: Self.range(page, 1), gpaFirst: GPA(0x4000_0000), hvaFirst: nil,
        permissions: .readWrite)
      do {
        try container.map(request)
        #expect(page != 0x101)
      } catch {
        #expect(page == 0x101 && error.errno == ContainerErrno.enomem && !error.isPartial)
      }
    }
    #expect(container.mappingCount == 2)
    #expect(faults.count(of: .map) == 3 && faults.callCount == 3 && faults.failedCount == 1)
    faults.reset([.init(nil, ordinal: 1, errno: ContainerErrno.eio, isLasting: true)])
    for _ in 0..<2 {
      #expect(throws: ContainerError.self) { try container.unmap(Self.range(0x100, 1)) }
    }
    #expect(container.mappingCount == 2 && faults.count(of: .unmap) == 2)
  }

  @Test(arguments: [ContainerKind.type1Pinned, .iommufdTracking])
  func `an unmap that fails half way leaves the later mappings`(kind: ContainerKind) throws {
    for moment in FaultPlan.Moment.allCases {
      let faults = FaultPlan()
      let (driver, port) = try started(kind, faults)
      faults.add(.init(.unmap, ordinal: 1, errno: ContainerErrno.efault, moment: moment))
      faults.add(.init(.unmapWithDirty, ordinal: 1, errno: ContainerErrno.efault, moment: moment))
      do {
        if kind == .type1Pinned {
          var bitmap = ContainerDriver.bitmap(Self.range(0x100, 12))
          try driver.container.unmap(reportingInto: &bitmap)
        } else {
          try driver.container.unmap(Self.range(0x100, 12))
        }
        Issue.record("the call succeeded")
      } catch {
        #expect(error.errno == ContainerErrno.efault)
        #expect(error.isPartial == (moment != .before))
        #expect(error.isGone == (moment == .after))
      }
      #expect((port.write([1], at: IOVA(0x10_1000)) != nil) == (moment == .before))
      #expect((port.write([1], at: IOVA(0x10_9000)) != nil) == (moment != .after))
    }
  }

  /// A tracker that believes more keeps mappings in its table that no device can reach, or drops
  /// such as devices still write through.
  @Test(arguments: ContainerKind.allCases, FaultPlan.Moment.allCases)
  func `what the error of an unmap says of the mappings is so`(
    kind: ContainerKind, moment: FaultPlan.Moment
  ) throws {
    for (isAtomic, count) in [(false, 1), (false, 2), (false, 3), (true, 1), (true, 2), (true, 3)]
      as [(Bool, UInt64)]
    {
      let faults = FaultPlan()
      let (container, port, memory) = kind.make(faults: faults)
      guard !isAtomic || container.capabilities.hasAtomicUnmap else { continue }
      let operation = isAtomic ? ContainerError.Operation.unmapWithDirty : .unmap
      let driver = ContainerDriver(container)
      for index in 0..<count {
        try driver.map(Self.range(0x100 + index, 1), to: memory.gpa.first)
      }
      try driver.start(logging: [Self.range(0, 0x200)])
      faults.add(.init(operation, ordinal: 1, errno: ContainerErrno.efault, moment: moment))
      let window = Self.range(0x100, count)
      let error = #expect(throws: ContainerError.self) {
        guard isAtomic else { return _ = try container.unmap(window) }
        var bitmap = ContainerDriver.bitmap(window)
        try container.unmap(reportingInto: &bitmap)
      }
      let left = (0..<count).filter { port.write([1], at: IOVA((0x100 + $0) << 12)) != nil }.count
      let place: Comment = "\(operation), mappings: \(count)"
      #expect(error?.isGone == (left == 0), place)
      #expect(error?.isPartial == (left < Int(count)), place)
    }
  }

  @Test(arguments: [ContainerKind.iommufdTracking, .iommufdDeviceLog])
  func `a query that fails after its effect has cleared the log`(kind: ContainerKind) throws {
    for moment in FaultPlan.Moment.allCases {
      let faults = FaultPlan()
      let (driver, _) = try started(kind, faults)
      faults.add(.init(.query, ordinal: 1, errno: ContainerErrno.efault, moment: moment))
      #expect(throws: ContainerError.self) { try driver.sync() }
      let dirty = try driver.sync()
      // iommufd asks two windows, and the fault hit the first; a device log asks one.
      let isWhole = kind == .iommufdDeviceLog
      switch moment {
      case .before: #expect(dirty.count == 2)
      case .halfway: #expect(dirty.count == 1)
      case .after: #expect(dirty.count == (isWhole ? 0 : 1))
      }
    }
  }

  @Test(arguments: ContainerKind.allCases)
  func `a start that failed after its effect has started the log`(kind: ContainerKind) throws {
    for moment in [FaultPlan.Moment.before, .after] {
      let faults = FaultPlan([
        .init(.startLog, ordinal: 1, errno: ContainerErrno.eio, moment: moment)
      ])
      let (container, _, _) = kind.make(faults: faults)
      let log = container.dirtyLogs[0]
      let ranges = log.capabilities.rangeCountMax == nil ? [] : [Self.range(0, 16)]
      #expect(throws: ContainerError.self) { try log.start(logging: ranges, pageSize: .fourKiB) }
      if log.capabilities.scope == .deviceLog {
        var bitmap = ContainerDriver.bitmap(Self.range(0, 16))
        let isStarted = (try? log.query(&bitmap, clear: true)) != nil
        #expect(isStarted == (moment == .after))
      }
      try log.stop()
      try log.start(logging: ranges, pageSize: .fourKiB)
    }
  }
}
