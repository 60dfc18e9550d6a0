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
}
