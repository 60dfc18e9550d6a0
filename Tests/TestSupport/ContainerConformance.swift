public import Addressing
public import DMAContainer
import IOVAMapping
import PageBitmap

/// A container under test with one device, and guest memory of `ramPageCount` pages from
/// `gpaFirst`. A laboratory that has the hardware makes one around the real kernel.
public struct ContainerFixture {
  public let container: any DMAContainer
  /// Lets the device write some bytes at the IOVA; returns the GPA they went to, nil when refused.
  public let write: (IOVA) -> GPA?
  public let gpaFirst: GPA
  public let ramPageCount: UInt64

  public init(
    container: any DMAContainer, gpaFirst: GPA, ramPageCount: UInt64,
    write: @escaping (IOVA) -> GPA?
  ) {
    self.container = container
    self.gpaFirst = gpaFirst
    self.ramPageCount = ramPageCount
    self.write = write
  }

  /// GPA of a page of RAM.
  func gpa(_ page: UInt64) -> GPA { GPA(gpaFirst.rawValue + (page << 12)) }
}

/// What every container promises, whatever it is made of. Each check takes a fresh fixture and
/// returns what is wrong, a sentence each.
public enum ContainerConformance {
  public typealias Check = @Sendable (ContainerFixture) throws(ContainerError) -> [String]

  public static let checks: [(name: String, check: Check)] = [
    ("it has a log and a page size", hasLogs),
    ("a sync finds what the device wrote", findsWrites),
    ("what a sync took it does not find again", readsAndClears),
    ("an unmap reports what was written through the mapping", unmapReports),
    ("an unmap spans holes and counts bytes", unmapSpansHoles),
    ("an unmap of nothing is 0 or ENOENT", unmapOfNothing),
    ("an overlap is EEXIST and changes nothing", overlapIsRefused),
    ("an unmap that cuts a mapping is refused and changes nothing", cutIsRefused),
    ("a map of parts of pages is EINVAL", unalignedIsRefused),
    ("a query sets bits and clears none", queryOnlySets),
    ("a peek leaves the log as it is", peekLeaves),
    ("a log that is started again is clean", startsClean),
    ("random maps, unmaps, writes and syncs lose nothing", losesNothing),
  ]

  /// Runs every check on a fixture of its own.
  public static func problems(_ make: () -> ContainerFixture) -> [String] {
    checks.flatMap { name, check in
      do {
        return try check(make()).map { "\(name): \($0)" }
      } catch {
        return ["\(name): \(error)"]
      }
    }
  }

  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }

  /// Everything the checks map.
  static let world = range(0x100, 0x100)

  static func address(_ page: UInt64) -> IOVA { IOVA(page << 12 | 0x40) }

  /// Two mappings side by side, a hole, a third, and a read-only one after it.
  private static func started(
    _ fixture: ContainerFixture
  ) throws(ContainerError) -> ContainerDriver {
    let driver = ContainerDriver(fixture.container)
    try driver.map(range(0x100, 4), to: fixture.gpa(10))
    try driver.map(range(0x104, 3), to: fixture.gpa(0))
    try driver.start(logging: [world])
    try driver.map(range(0x10a, 5), to: fixture.gpa(20))
    try driver.map(range(0x10f, 2), to: fixture.gpa(30), permissions: .read)
    return driver
  }

  private static func expect(_ holds: Bool, _ text: @autoclosure () -> String) -> [String] {
    holds ? [] : [text()]
  }

  static let hasLogs: Check = { fixture in
    expect(!fixture.container.dirtyLogs.isEmpty, "no dirty log")
      + expect(fixture.container.capabilities.pageSizes.smallest != nil, "no page size")
  }

  static let findsWrites: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    var problems: [String] = []
    for (page, ram) in [(0x101, 11), (0x106, 2), (0x10e, 24)] as [(UInt64, UInt64)] {
      let gpa = fixture.write(address(page))
      let expected = fixture.gpa(ram).rawValue | 0x40
      problems += expect(gpa == GPA(expected), "page \(page) went to \(gpa as Any)")
    }
    for page in [0x107, 0x10f, 0x111, 0x200] as [UInt64] {
      problems += expect(fixture.write(address(page)) == nil, "page \(page) was written")
    }
    let dirty = try driver.sync()
    let written: Set<UInt64> = [0x101, 0x106, 0x10e]
    problems += expect(written.isSubset(of: dirty.keys), "\(dirty.keys) is short")
    problems += expect(!driver.isExact || written == Set(dirty.keys), "\(dirty.keys) is too much")
    return problems
  }

  static let readsAndClears: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    _ = fixture.write(address(0x101))
    _ = try driver.sync()
    let again = try driver.sync()
    return expect(!driver.isExact || again.isEmpty, "\(again.keys) found twice")
  }

  static let unmapReports: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    _ = fixture.write(address(0x101))
    _ = fixture.write(address(0x105))
    let (bytes, dirty) = try driver.unmap(range(0x104, 3))
    var problems = expect(bytes == 3 << 12, "\(bytes) bytes were unmapped")
    problems += expect(dirty[0x105] == fixture.gpa(1).rawValue >> 12, "\(dirty) lacks the page")
    problems += expect(!driver.isExact || dirty.count == 1, "\(dirty) is too much")
    problems += expect(fixture.write(address(0x105)) == nil, "the device writes on")
    problems += expect(try driver.sync()[0x101] != nil, "a neighbour's dirt is gone")
    return problems
  }

  static let unmapSpansHoles: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    _ = fixture.write(address(0x10b))
    let (bytes, dirty) = try driver.unmap(range(0x100, 0x20))
    return expect(bytes == 14 << 12, "\(bytes) bytes were unmapped")
      + expect(dirty[0x10b] != nil, "\(dirty) lacks the page")
      + expect(fixture.write(address(0x100)) == nil, "the device writes on")
      + expect(try driver.sync().isEmpty, "dirt without a mapping")
  }

  static let unmapOfNothing: Check = { (fixture) throws(ContainerError) in
    do throws(ContainerError) {
      let bytes = try fixture.container.unmap(range(0x300, 4))
      return expect(bytes == 0, "\(bytes) bytes of nothing")
    } catch {
      return expect(error.errno == ContainerErrno.enoent && !error.isPartial, "\(error)")
    }
  }

  static let overlapIsRefused: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    var problems: [String] = []
    for overlap in [range(0x100, 4), range(0x103, 4), range(0x102, 1), range(0xff, 0x20)] {
      let request = MapRequest(
        iova: overlap, gpaFirst: fixture.gpa(40), hvaFirst: nil, permissions: .readWrite)
      do throws(ContainerError) {
        try fixture.container.map(request)
        problems.append("\(overlap) was mapped twice")
      } catch {
        problems += expect(error.errno == ContainerErrno.eexist, "\(error)")
      }
    }
    let gpa = fixture.write(address(0x102))
    problems += expect(gpa == GPA(fixture.gpa(12).rawValue | 0x40), "it maps \(gpa as Any) now")
    problems += expect(fixture.write(address(0xff)) == nil, "part of a refused map is there")
    problems += expect(try driver.sync()[0x102] != nil, "the page is not found")
    return problems
  }

  static let cutIsRefused: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    guard fixture.container.capabilities.bisectPolicy == .refuse else { return [] }
    _ = fixture.write(address(0x101))
    var problems: [String] = []
    for cut in [range(0x100, 2), range(0x102, 2), range(0x101, 1), range(0x101, 6)] {
      do throws(ContainerError) {
        try fixture.container.unmap(cut)
        problems.append("\(cut) was unmapped")
      } catch {
        let isNamed = error.errno == ContainerErrno.einval || error.errno == ContainerErrno.enoent
        problems += expect(isNamed && !error.isPartial, "\(error)")
      }
    }
    for page in [0x100, 0x103, 0x106] as [UInt64] {
      problems += expect(fixture.write(address(page)) != nil, "page \(page) is gone")
    }
    problems += expect(try driver.sync()[0x101] != nil, "the dirt is gone")
    return problems
  }

  static let unalignedIsRefused: Check = { fixture in
    var problems: [String] = []
    for (first, bytes) in [(0x10_0800, 0x1000), (0x10_0000, 0x800)] as [(UInt64, UInt64)] {
      guard let iova = IOVARange(first: IOVA(first), byteCount: bytes) else { continue }
      do throws(ContainerError) {
        try fixture.container.map(
          MapRequest(iova: iova, gpaFirst: fixture.gpa(0), hvaFirst: nil, permissions: .readWrite))
        problems.append("\(iova) was mapped")
      } catch {
        problems += expect(error.errno == ContainerErrno.einval, "\(error)")
      }
    }
    return problems
  }

  static let queryOnlySets: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    var problems: [String] = []
    for log in fixture.container.dirtyLogs {
      var bitmap = ContainerDriver.bitmap(range(0x100, 4))
      bitmap.insert(range(0x103, 1))
      try log.query(&bitmap, clear: true)
      problems += expect(bitmap.contains(address(0x103)), "\(log.name) cleared a bit")
    }
    return problems + expect(driver.queryCount == 0, "the driver asked")
  }

  static let peekLeaves: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    _ = fixture.write(address(0x101))
    var problems: [String] = []
    for log in fixture.container.dirtyLogs where log.capabilities.canPeek {
      var answers: [[IOVARange]] = []
      for clear in [false, false, true] {
        var bitmap = ContainerDriver.bitmap(range(0x100, 4))
        try log.query(&bitmap, clear: clear)
        var runs: [IOVARange] = []
        bitmap.forEachDirtyRun { runs.append($0) }
        answers.append(runs)
      }
      problems += expect(Set(answers).count == 1, "\(log.name) answered \(answers)")
    }
    return problems + expect(driver.queryCount == 0, "the driver asked")
  }

  static let startsClean: Check = { (fixture) throws(ContainerError) in
    let driver = try started(fixture)
    _ = fixture.write(address(0x101))
    try driver.stop()
    _ = fixture.write(address(0x102))
    try driver.start(logging: [world])
    _ = fixture.write(address(0x103))
    let dirty = try driver.sync()
    return expect(dirty[0x103] != nil, "\(dirty.keys) lacks the page")
      + expect(!driver.isExact || dirty.count == 1, "\(dirty.keys) is old")
  }
}
