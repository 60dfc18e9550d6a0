import DeviceMigration
import VFIOKernel

/// Two devices of the region's kind, driven by what a VMM's notifiers say of the VM and of the
/// migration. The state is asked of `device_state` itself, after each of them.
final class RegionNotifiers {
  /// What the notifiers say, or what the migration does, one after the other.
  enum Step: CaseIterable {
    case setup, active, precopyChunks, finishMigrate, loadBegins, stopCopyChunks, completed,
      runsThere
  }

  private let source: MigratableDeviceV1
  private let destination: MigratableDeviceV1
  private let here: RegionRegisters
  private let there: RegionRegisters
  private let driver: DeviceStateDriver
  private let arrival: DeviceStateDriver
  private var chunks: [[UInt8]] = []

  init(_ files: (KernelFile, KernelFile), careless: CarelessRegion.Habit? = nil) throws {
    func device(_ name: String, _ file: KernelFile) throws -> MigratableDeviceV1 {
      let device = VFIODevice(
        name: name, descriptor: VFIODescriptor(file.descriptor, ownership: .borrowed))
      guard let region = try VFIODeviceMigrationV1(device: device) else {
        throw LabError("\(name) has no migration region")
      }
      return MigratableDeviceV1(
        name: name, migration: CarelessRegion.used(region, careless))
    }
    source = try device("source", files.0)
    destination = try device("destination", files.1)
    here = RegionRegisters(file: files.0)
    there = RegionRegisters(file: files.1)
    driver = DeviceStateDriver(devices: [source], vm: .running)
    arrival = DeviceStateDriver(devices: [destination], vm: .paused)
  }

  /// `device_state` of the two after a step.
  private static let after: [Step: (here: UInt64, there: UInt64)] = [
    .setup: (3, 1), .active: (3, 1), .precopyChunks: (3, 1), .finishMigrate: (2, 1),
    .loadBegins: (2, 4), .stopCopyChunks: (2, 4), .completed: (0, 4), .runsThere: (0, 1),
  ]

  private func perform(_ step: Step) throws {
    switch step {
    case .setup: try driver.migrationStateChanged(.setup)
    case .active: try driver.migrationStateChanged(.active)
    case .precopyChunks: try take(until: .drainedForNow)
    case .finishMigrate: try driver.vmStateChanged(.finishMigrate)
    case .loadBegins: try destination.beginResuming()
    case .stopCopyChunks:
      try take(until: .end)
      for chunk in chunks {
        try DeviceBytes.reading(chunk) { (bytes) throws(DeviceError) in try destination.load(bytes)
        }
      }
      try destination.finishResuming()
    case .completed: try driver.migrationStateChanged(.completed)
    case .runsThere: try arrival.vmStateChanged(.running)
    }
  }

  private func take(until last: ChunkOutcome) throws {
    var chunk: [UInt8] = []
    while true {
      let outcome = try source.nextChunk(into: &chunk, byteCountMax: 1 << 20)
      if outcome == last { return }
      guard outcome == .chunk else { throw LabError("\(outcome) before \(last)") }
      chunks.append(chunk)
    }
  }

  /// The whole of it.
  func run(_ name: String, into result: inout LabResult) throws {
    for step in Step.allCases {
      do {
        try perform(step)
      } catch {
        return result.check("\(name): \(step)", false, "\(error)")
      }
      let wanted = Self.after[step]
      result.check(
        "\(name): after \(step) device_state is right on both sides",
        here.state == wanted?.here && there.state == wanted?.there,
        "\(String(describing: here.state)), \(String(describing: there.state))")
    }
  }

  /// The steps to `last`, then the migration ends with `status`; the VM runs on, or stays stopped
  /// where it was paused by hand.
  func give(
    up status: MigrationStatus, after last: Step, paused: Bool, into result: inout LabResult
  ) throws {
    if paused { try driver.vmStateChanged(.paused) }
    for step in Step.allCases {
      try perform(step)
      if step == last { break }
    }
    try driver.migrationStateChanged(status)
    try driver.vmStateChanged(paused ? .paused : .running)
    _ = arrival.recoverAll()
    let name = "\(status) after \(last)\(paused ? ", the VM paused" : "")"
    result.expect("\(name): the source", here.state, is: paused ? 0 : 1)
    result.expect("\(name): the destination, which never ran", there.state, is: 0)
    chunks = []
  }
}
