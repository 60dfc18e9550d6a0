import Addressing
import DeviceMigration
import Locking
import Simulation
import Testing
import VFIOUser

@testable import TrackerService
@testable import VhostUser

/// A VM around a service: the VMM's side of both sockets, a device server, and RAM in a file.
///
///     VMM: `vmm` (vfio-user), `frontEnd` (vhost-user) ── VMService ── `device`
final class ServiceWorld {
  /// RAM: 64 pages at GPA 0, which are the file's first, and 64 at 4 GiB, which are the next.
  static let halfPageCount: UInt64 = 64
  static let highFirst: UInt64 = 1 << 32

  let device: TestDevice
  let vmm: VFIOUserClient
  let frontEnd: FrontEnd
  let service: VMService
  let said = Said()
  /// What the VMM carried out itself.
  let vmmMemory = VMMMemory()
  let log = LogFile(byteCount: (highFirst >> 12) / 8 + 64)
  let memory: VFIOUser.OwnedDescriptor
  private let server: VFIOUserServer
  private let listener: VFIOUserListener
  private let threads: [SimulatedThread]

  /// What a service said.
  final class Said: Sendable {
    private let lines = Mutex<[String]>([])
    func note(_ level: ServiceLog.Level, _ text: String) { lines.withLock { $0.append(text) } }
    func has(_ text: String) -> Bool { lines.withLock { $0.contains { $0.contains(text) } } }
    var all: [String] { lines.withLock { $0 } }
  }

  struct Options {
    var device = TestDevice.Options()
    var way = DeviceWay.automatic
    var omissions: Set<ServiceOmission> = []
    var isStrict = false
  }

  init(_ options: Options = Options()) throws {
    let path = { Descriptors.temporaryPath($0) }
    let device = TestDevice(options.device)
    let listener = try VFIOUserListener(path: path("server"))
    let server = VFIOUserServer(
      device: device,
      // A VM may stand still for long.
      options: VFIOUserServerOptions(offersTwinSocket: false, answerMilliseconds: nil))
    device.attach(server)
    var threads = [
      try SimulatedThread(name: "server") {
        while let socket = try? listener.accept() { server.serve(socket) }
      }
    ]
    var configuration = DeviceConfiguration(
      name: "nic", vmmSocket: path("vmm"), serverSocket: listener.path)
    configuration.way = options.way
    var vm = VMConfiguration(
      name: "vm", devices: [configuration], companion: path("companion"))
    vm.isStrict = options.isStrict
    vm.omissions = options.omissions
    // Syncs are the test's own.
    vm.syncPeriodMilliseconds = 60_000
    let said = said
    service = try VMService(vm) { said.note($0, $1) }
    let vmm = try VFIOUserClient(
      path: configuration.vmmSocket, name: "QEMU", options: VFIOUserClientOptions(minor: 0))
    threads.append(
      try SimulatedThread(name: "QEMU's loop") {
        while (try? vmm.serve(milliseconds: nil)) != nil {}
      })
    frontEnd = FrontEnd(vm.companion)
    memory = VFIOUser.OwnedDescriptor(
      owning: Descriptors.memory("ram", byteCount: Self.halfPageCount * 2 << 12))
    self.device = device
    self.listener = listener
    self.server = server
    self.vmm = vmm
    self.threads = threads
    vmm.serveDMA(by: vmmMemory)
    frontEnd.realize()
  }

  func close() {
    vmm.shutDown()
    server.shutDown()
    listener.shutDown()
    service.end()
    for thread in threads { thread.join() }
    device.attach(nil)
  }

  /// The server's process is gone.
  func killServer() { server.shutDown() }

  // MARK: what a VMM does

  /// RAM as the companion is told.
  var regions: [(RAMRegionDescription, Int32)] {
    let size = Self.halfPageCount << 12
    return [
      (
        RAMRegionDescription(
          gpa: 0, byteCount: size, userAddress: 0x7f00_0000_0000, fileOffset: 0),
        memory.rawValue
      ),
      (
        RAMRegionDescription(
          gpa: Self.highFirst, byteCount: size, userAddress: 0x7f00_0000_0000 + size,
          fileOffset: size), memory.rawValue
      ),
    ]
  }

  /// The guest's driver has started the companion.
  func start() { frontEnd.start(regions) }

  /// The GPA that a page of the file is.
  static func page(ofFile page: UInt64) -> UInt64 {
    page < halfPageCount ? page : (highFirst >> 12) + page - halfPageCount
  }

  static func range(_ page: UInt64, _ count: UInt64 = 1) -> IOVARange {
    IOVARange(first: IOVA(page << 12), last: IOVA((page + count) << 12 - 1))
  }

  /// Maps pages of the file for the device.
  func map(_ iovaPage: UInt64, _ count: UInt64 = 1, toFile page: UInt64) throws {
    _ = try vmm.request(
      .mapDMA(
        DMAMapMessage(
          iova: Self.range(iovaPage, count), fileOffset: page << 12, permissions: .readWrite)),
      descriptors: [memory])
  }

  func unmap(_ iovaPage: UInt64, _ count: UInt64 = 1) throws {
    _ = try vmm.request(
      .unmapDMA(DMAUnmapMessage(first: iovaPage << 12, size: count << 12)))
  }

  /// The device writes a byte to a page.
  func write(_ iovaPage: UInt64, _ byte: UInt8 = 1) -> Bool {
    device.write([byte], at: IOVA(iovaPage << 12)) != nil
  }

  /// Pages of the file that the VMM finds in its log.
  func takeDirty() -> Set<UInt64> {
    Set(
      log.takePages().compactMap { page in
        if page < Self.halfPageCount { return page }
        let high = Self.highFirst >> 12
        return page >= high ? page - high + Self.halfPageCount : nil
      })
  }

  func contents(ofFile page: UInt64) -> UInt8 { TestFile.read(memory, Int(page << 12), 1)[0] }
}
