import Addressing
import DMAContainer
import DeviceMigration
import DirtyTracker
import GuestDirtyLog
import Simulation
import VFIOKernel

/// One host: RAM, a type1 container with the pinning device and an mtty, and the tracker over it.
///
/// The guest's IOVA space is made of slots, each of which is one mapping of 16 pages or nothing.
final class MoveSide {
  static let slotCount = 48
  static let slotByteCount: UInt64 = 16 * 4096
  private static let slotStride: UInt64 = 2 * slotByteCount
  private static let slotFirst: UInt64 = 0x1000_0000

  /// What must be the same on both sides.
  struct Picture {
    var pages: [UInt64]
    var deviceMemory: [UInt8]
    var scratch: [UInt8]
  }

  let ram: GuestRAM
  let pinning: PinningDevice
  let tracker: DirtyTracker
  let id: ContainerID
  let way: MoveWay
  let devices: [any MigratableDevice]
  let calls: FaultyCalls
  private(set) var machine = MoveMachine(
    isRunning: false, whenStopped: {}, save: { [] }, restore: { _ in })
  /// What was here when the machine's state was saved or restored: devices and vCPUs stand still.
  private(set) var picture: Picture?
  private var writeCount: UInt64 = 0
  private let raw: RawContainer
  private let mtty: KernelFile

  /// - Parameters:
  ///   - names: of the pinning device and the mtty.
  ///   - edu: the address of the edu that shares the container, where one does.
  ///   - careless: what the v1 region's user does against the protocol.
  init(
    _ names: (pinning: String, mtty: String), way: MoveWay, edu: String? = nil,
    omitting: Set<TrackerOmission> = [], careless: CarelessRegion.Habit? = nil
  ) throws {
    self.way = way
    let logs = way == .logged
    calls = FaultyCalls(refusesMaps: way == .regionByFile)
    ram = try GuestRAM(layout: GuestLayout(byteCount: 16 << 20))
    raw = try RawContainer(devices: [PinningDevice.path(names.pinning)])
    pinning = PinningDevice(name: names.pinning, file: try raw.openDevice(names.pinning))
    try raw.attach(PinningDevice.path(names.mtty))
    mtty = try raw.openDevice(names.mtty)
    let calls = calls
    func device(_ name: String, _ file: KernelFile) -> VFIODevice {
      VFIODevice(
        name: name,
        descriptor: VFIODescriptor(file.descriptor, ownership: .borrowed, calls: calls))
    }
    let (pinningDevice, mttyDevice) = (device("pinning", pinning.file), device("mtty", mtty))
    func log(_ device: VFIODevice) -> DeviceDMALog? { logs ? DeviceDMALog(device: device) : nil }
    if let edu { try raw.attach(EduDevice.path(edu)) }
    let container = try Type1Container(
      name: "type1",
      adopting: VFIODescriptor(raw.file.descriptor, ownership: .borrowed, calls: calls),
      devices: [
        Type1Device(name: "pinning", isMediated: true, log: log(pinningDevice)),
        Type1Device(name: "mtty", isMediated: true, log: log(mttyDevice)),
      ] + (edu.map { [Type1Device(name: $0, isMediated: false)] } ?? []))
    devices = [
      try Self.migratable("pinning", pinningDevice, way, careless),
      MigratableDeviceV2(name: "mtty", migration: VFIODeviceMigrationV2(device: mttyDevice)),
    ]
    tracker = DirtyTracker(log: GuestDirtyLog(), omitting: omitting)
    try tracker.begin()
    for region in ram.ramRegions { try tracker.regionAdded(region) }
    try tracker.commit()
    id = try tracker.addContainer(container, addressSpace: .remapped)
    machine = MoveMachine(
      isRunning: false, whenStopped: { [unowned self] in writeOnceMore() },
      save: { [unowned self] in save() },
      restore: { [unowned self] bytes throws(MachineError) in try restore(bytes) })
  }

  private static func migratable(
    _ name: String, _ device: VFIODevice, _ way: MoveWay, _ careless: CarelessRegion.Habit?
  ) throws -> any MigratableDevice {
    guard way.hasRegion else {
      return MigratableDeviceV2(name: name, migration: VFIODeviceMigrationV2(device: device))
    }
    guard let region = try VFIODeviceMigrationV1(device: device) else {
      throw LabError("\(name) has no migration region")
    }
    guard region.mappedAreaCount == (way == .regionByFile ? 0 : 1) else {
      throw LabError("\(region.mappedAreaCount) areas of the region are mapped")
    }
    return MigratableDeviceV1(
      name: name, migration: CarelessRegion.used(region, careless))
  }

  // MARK: the guest's IOMMU

  static var dmaRange: IOVARange {
    AddressRange(
      first: IOVA(slotFirst), last: IOVA(slotFirst + UInt64(slotCount) * slotStride - 1))
  }

  static func slot(_ number: Int) -> IOVARange {
    let first = slotFirst + UInt64(number) * slotStride
    return AddressRange(first: IOVA(first), last: IOVA(first + slotByteCount - 1))
  }

  func gpa(of slot: Int) -> GPA? { tracker.lookup(id, Self.slot(slot).first)?.gpaFirst }

  func map(_ slot: Int, to gpa: GPA) throws(TrackerError) {
    try tracker.iommuMap(id, Self.slot(slot), to: gpa, permissions: .readWrite)
  }

  func unmap(_ slot: Int) throws(TrackerError) { try tracker.iommuUnmap(id, Self.slot(slot)) }

  /// Makes room for a guest to come.
  func empty() throws {
    calls.plan(failAt: nil)
    machine.becomeEmpty()
    // A guest that left while its device could not be told to stop leaves it as it was.
    for device in devices where device.state != .stop && device.state != .running {
      _ = try device.recover()
    }
    try tracker.iommuUnmap(id, .wholeSpace)
    picture = nil
  }

  // MARK: devices

  /// The moving device is in its error state, until it is recovered, and does no DMA.
  var isBroken: Bool {
    // What cannot be asked is not excused.
    (try? pinning.status().migrationState) == UInt64(DeviceState.error.rawValue)
  }

  func startDMA() -> Int32 {
    pinning.order(
      .doDMA, Self.dmaRange.first.rawValue, byteCount: Self.dmaRange.lastOffset + 1, value: 1)
  }

  /// A device writes on until it is stopped itself. By its timer alone it writes once a jiffy, and
  /// a fast machine looks for the last time, stops the vCPUs and stops the device within one: then
  /// no page would be left for the final sync.
  private func writeOnceMore() {
    guard let slot = (0..<Self.slotCount).first(where: { gpa(of: $0) != nil }) else { return }
    let page = Self.slot(slot).first.rawValue
    writeCount += 1
    // A device in its error state writes nothing.
    guard pinning.order(.pin, page, byteCount: 4096) == 0 else { return }
    _ = pinning.order(.writePinned, page, byteCount: 8, value: .max - writeCount)
  }

  /// The scratch registers of the mtty's two ports.
  func scratch() throws -> [UInt8] {
    try [UInt64(0), 1].flatMap { try mtty.read(at: $0 << 40 + 7, byteCount: 1) }
  }

  func setScratch(_ value: UInt8, port: UInt64) -> Int32 {
    mtty.write([value], at: port << 40 + 7)
  }

  func look() throws -> Picture {
    Picture(
      pages: ram.pageDigests(), deviceMemory: try pinning.memory(), scratch: try scratch())
  }

  // MARK: the machine's state: what the guest has mapped

  private func save() -> [UInt8] {
    picture = try? look()
    var bytes = Structure()
    for slot in 0..<Self.slotCount { bytes = bytes.u64(gpa(of: slot)?.rawValue ?? .max) }
    return bytes.bytes
  }

  private func restore(_ bytes: [UInt8]) throws(MachineError) {
    for slot in 0..<Self.slotCount {
      let gpa: UInt64 = Structure.load(bytes, at: slot * 8)
      guard gpa != .max else { continue }
      do throws(TrackerError) {
        try map(slot, to: GPA(gpa))
      } catch {
        throw MachineError(operation: "map slot \(slot)", detail: "\(error)")
      }
    }
    picture = try? look()
  }
}
