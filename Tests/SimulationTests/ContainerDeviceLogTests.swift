import Addressing
import DMAContainer
import PageBitmap
import Simulation
import TestSupport
import Testing

/// The rules of a device's own log.
@Suite struct ContainerDeviceLogTests {
  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }

  func errno(_ body: () throws(ContainerError) -> Void) -> Int32? {
    do throws(ContainerError) {
      try body()
      return nil
    } catch {
      return error.errno
    }
  }

  func start(_ log: SimulatedDeviceLog, _ ranges: [IOVARange]) -> Int32? {
    errno { () throws(ContainerError) in try log.start(logging: ranges, pageSize: .fourKiB) }
  }

  func query(_ log: SimulatedDeviceLog, _ window: IOVARange) -> (count: UInt64, errno: Int32?) {
    var bitmap = ContainerDriver.bitmap(window)
    let errno = errno { () throws(ContainerError) in try log.query(&bitmap, clear: true) }
    return (bitmap.dirtyCount, errno)
  }

  @Test func `start refuses what drivers refuse`() {
    let log = SimulatedDeviceLog(name: "log", spanByteCountMax: 1 << 30)
    let many = (0..<257 as Range<UInt64>).map { Self.range($0 * 2, 1) }
    #expect(start(log, []) == ContainerErrno.einval)
    #expect(start(log, many) == ContainerErrno.e2big)
    #expect(start(log, [Self.range(0, 512), Self.range(256, 512)]) == ContainerErrno.einval)
    #expect(
      start(log, [AddressRange(first: IOVA(0x800), last: IOVA(0x1fff))]) == ContainerErrno.einval)
    #expect(start(log, [Self.range(0, 1 << 19)]) == ContainerErrno.eopnotsupp)
    #expect(start(log, [.wholeSpace]) == ContainerErrno.eopnotsupp)
    #expect(query(log, Self.range(0, 1)).errno == ContainerErrno.einval)
    #expect(start(log, Array(many.dropLast())) == nil)
    #expect(log.loggedRanges.count == 256)
    #expect(start(log, [Self.range(0, 1)]) == ContainerErrno.einval)
  }

  @Test func `it logs its ranges only, answers after an unmap, and clears what it reports`() throws
  {
    let memory = ContainerTestMemory()
    let container = SimulatedIOMMUFD(memory: memory)
    let log = SimulatedDeviceLog(name: "log")
    let port = container.attachDevice("nic", log: log)
    try container.map(
      MapRequest(
        iova: Self.range(0x100, 8), gpaFirst: memory.gpa.first, hvaFirst: nil,
        permissions: .readWrite))
    #expect(start(log, [Self.range(0x102, 2)]) == nil)
    // One write over pages 0x101 to 0x104.
    #expect(port.write([UInt8](repeating: 7, count: 0x2800), at: IOVA(0x10_1800)) != nil)
    try container.unmap(Self.range(0x100, 8))
    #expect(query(log, Self.range(0x103, 1)) == (1, nil))
    #expect(query(log, Self.range(0x100, 8)) == (1, nil))
    #expect(query(log, Self.range(0x100, 8)) == (0, nil))
  }

  @Test func `an error stays until the log is stopped`() throws {
    let log = SimulatedDeviceLog(
      name: "log",
      faults: FaultPlan([.init(.query, ordinal: 2, errno: ContainerErrno.eio)]))
    #expect(start(log, [Self.range(0, 8)]) == nil)
    #expect(query(log, Self.range(0, 8)).errno == nil)
    for _ in 0..<3 { #expect(query(log, Self.range(0, 8)).errno == ContainerErrno.eio) }
    try log.stop()
    #expect(start(log, [Self.range(0, 8)]) == nil)
    #expect(query(log, Self.range(0, 8)).errno == nil)
    log.injectError()
    #expect(query(log, Self.range(0, 8)).errno == ContainerErrno.eio)
  }

  /// A container whose device writes IOVA pages 0x100 and on, and its log.
  func written(
    _ granule: DirtyLogGranule, _ pages: [UInt64]
  ) throws -> SimulatedDeviceLog {
    let memory = ContainerTestMemory()
    let container = SimulatedIOMMUFD(memory: memory)
    let log = SimulatedDeviceLog(name: "log", granule: granule)
    let port = container.attachDevice("nic", log: log)
    try container.map(
      MapRequest(
        iova: Self.range(0x100, 128), gpaFirst: memory.gpa.first, hvaFirst: nil,
        permissions: .readWrite))
    #expect(start(log, [Self.range(0x100, 128)]) == nil)
    for page in pages { #expect(port.write([1], at: IOVA(page << 12)) != nil) }
    return log
  }

  @Test func `a log of words takes away what lies beside a window, and tells wrong pages`() throws {
    let words = DirtyLogGranule.words(of: .fourKiB)
    let sound = try written(words, [0x105, 0x145])
    #expect(query(sound, Self.range(0x140, 64)) == (1, nil))
    #expect(query(sound, Self.range(0x100, 64)) == (1, nil))
    let cut = try written(words, [0x145, 0x17f])
    // One page later than the word: the page is told one page later, and all else is gone.
    var bitmap = ContainerDriver.bitmap(Self.range(0x141, 10))
    try cut.query(&bitmap, clear: true)
    var runs: [IOVARange] = []
    bitmap.forEachDirtyRun { runs.append($0) }
    #expect(runs == [Self.range(0x146, 1)])
    #expect(query(cut, Self.range(0x100, 128)) == (0, nil))
  }

  @Test func `a log of words refuses fewer pages than a word`() throws {
    let log = SimulatedDeviceLog(name: "log", granule: .words(of: .fourKiB))
    #expect(start(log, [Self.range(0, 63)]) == ContainerErrno.eopnotsupp)
    #expect(start(log, [Self.range(0, 64)]) == nil)
  }

  @Test func `a log of larger pages takes away the part of a page that lies beside a window`()
    throws
  {
    let pages = DirtyLogGranule(pageCount: 1, pageSize: try #require(PageSize(bytes: 16 << 10)))
    let log = try written(pages, [0x105])
    #expect(query(log, Self.range(0x106, 1)) == (1, nil))
    #expect(query(log, Self.range(0x100, 128)) == (0, nil))
    let whole = try written(pages, [0x105])
    #expect(query(whole, Self.range(0x104, 4)) == (4, nil))
  }

  @Test func `a second start is refused, or does nothing and keeps the old ranges`() throws {
    let refusing = SimulatedDeviceLog(name: "log")
    let silent = SimulatedDeviceLog(name: "log", ignoresSecondStart: true)
    for log in [refusing, silent] { #expect(start(log, [Self.range(0, 8)]) == nil) }
    #expect(start(refusing, [Self.range(16, 8)]) == ContainerErrno.einval)
    #expect(start(silent, [Self.range(16, 8)]) == nil)
    #expect(silent.loggedRanges == [Self.range(0, 8)])
  }

  @Test func `a stop that fails before its effect leaves the log running, and can be made again`()
    throws
  {
    for moment in [FaultPlan.Moment.before, .after] {
      let log = SimulatedDeviceLog(
        name: "log", ignoresSecondStart: true,
        faults: FaultPlan([
          .init(.stopLog, ordinal: 1, errno: ContainerErrno.eio, moment: moment)
        ]))
      #expect(start(log, [Self.range(0, 8)]) == nil)
      #expect(throws: ContainerError.self) { try log.stop() }
      #expect(log.loggedRanges.isEmpty == (moment == .after))
      try log.stop()
      #expect(log.loggedRanges.isEmpty)
      #expect(start(log, [Self.range(16, 8)]) == nil)
      #expect(log.loggedRanges == [Self.range(16, 8)])
    }
  }
}
