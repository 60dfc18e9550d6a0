import Addressing
import DMAContainer
import Locking
import TestSupport
import Testing
import VFIOUser

/// What every container promises, held by client, socket, server and a device behind it.
@Suite struct ClientConformanceTests {
  enum Kind: String, CaseIterable, Sendable {
    /// The server's log, asked for any range.
    case serverLog
    /// As libvfio-user wants it: whole pieces only.
    case serverLogByPieces
    /// Pieces of 64 pages: a mapping is several.
    case serverLogInSmallPieces
    case byMessage
    case byMessageOverTwin
    /// The server writes by itself and does not say what.
    case withoutLog
  }

  static func options(_ kind: Kind, forgets: Bool = false) -> TestPair.Options {
    var options = TestPair.Options()
    options.device.hasLog = kind != .withoutLog
    options.device.forgetsWrites = forgets
    switch kind {
    case .serverLogByPieces: options.server.saysItReportsAnyRange = false
    case .serverLogInSmallPieces:
      // Bitmaps of 8 bytes.
      options.client.limits = MessageLimits(dataByteCountMax: 48)
    case .byMessageOverTwin: options.client.wantsTwinSocket = true
    default: break
    }
    return options
  }

  static func fixture(_ pair: TestPair, _ kind: Kind) throws -> ContainerFixture {
    let ram = TestRAM()
    let byMessage = kind == .byMessage || kind == .byMessageOverTwin
    let container = try pair.container(ram, byMessage: byMessage)
    let device = pair.device
    return ContainerFixture(
      container: container, gpaFirst: TestRAM.gpaFirst, ramPageCount: TestRAM.pageCount,
      write: { iova in
        guard let offset = device.write([1, 2, 3, 4], at: iova) else { return nil }
        return byMessage ? ram.lastWritten : GPA(TestRAM.gpaFirst.rawValue + offset)
      })
  }

  static func problems(_ kind: Kind, forgets: Bool = false) throws -> [String] {
    var problems: [String] = []
    for (name, check) in ContainerConformance.checks {
      let pair = try TestPair(options(kind, forgets: forgets))
      defer { pair.close() }
      let fixture = try fixture(pair, kind)
      do throws(ContainerError) {
        problems += try check(fixture).map { "\(name): \($0)" }
      } catch {
        problems.append("\(name): \(error)")
      }
    }
    return problems
  }

  @Test(arguments: Kind.allCases)
  func `a container over a connection keeps what a container promises`(kind: Kind) throws {
    #expect(try Self.problems(kind) == [])
  }

  @Test(arguments: [Kind.serverLog, .serverLogByPieces, .serverLogInSmallPieces])
  func `the suite notices a device that does not say what it wrote`(kind: Kind) throws {
    #expect(try Self.problems(kind, forgets: true) != [])
  }

  @Test func `a mapping larger than an answer's bitmap is mapped, asked and unmapped in pieces`()
    throws
  {
    let pair = try TestPair(Self.options(.serverLogInSmallPieces))
    defer { pair.close() }
    let ram = TestRAM()
    let container = try pair.container(ram)
    let driver = ContainerDriver(container)
    let iova = ContainerConformance.range(0x1000, 200)
    try driver.start(logging: [iova])
    try driver.map(iova, to: TestRAM.gpaFirst)
    #expect(pair.device.regions.map(\.iova.lastOffset) == [0x3ffff, 0x3ffff, 0x3ffff, 0x7fff])
    for page in [0, 63, 64, 199] as [UInt64] {
      #expect(pair.device.write([1], at: IOVA((0x1000 + page) << 12)) == page << 12)
    }
    #expect(try Set(driver.sync().keys) == [0x1000, 0x103f, 0x1040, 0x10c7])
    #expect(try driver.sync().isEmpty)
    _ = pair.device.write([1], at: IOVA(0x10c6 << 12))
    let (bytes, dirty) = try driver.unmap(iova)
    #expect(bytes == 200 << 12)
    #expect(Set(dirty.keys) == [0x10c6])
    #expect(pair.device.regionCount == 0)
  }
}

extension ContainerConformance {
  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }
}
