import Addressing
import DeviceMigration
import DirtyTracker
import GuestDirtyLog
import Simulation
import VFIOKernel

/// The first protocol, by the real kernel: what the driver refuses, what notifiers bring about, and
/// what is said of a device without a region. `migration SEED region` moves it under load.
enum RegionTest {
  /// - Parameter arguments: `--plant HABIT`: the user of the region is careless; the test must end
  ///   with status 1.
  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    let names = try (1...2).map { try PinningDevice.create($0, type: "region") }
    let raw = try RawContainer(devices: [PinningDevice.path(names[0])])
    let first = try raw.openDevice(names[0])
    try raw.attach(PinningDevice.path(names[1]))
    let files = (first, try raw.openDevice(names[1]))
    let devices = [files.0, files.1].enumerated().map {
      PinningDevice(name: names[$0.offset], file: $0.element)
    }
    let planted = arguments.firstIndex(of: "--plant").flatMap { index in
      arguments.dropFirst(index + 1).first
    }
    if let planted {
      let habit = CarelessRegion.Habit.allCases.first { "\($0)" == planted }
      guard let habit else { throw LabError("no habit \(planted)") }
      try RegionNotifiers(files, careless: habit).run("planted", into: &result)
      return result
    }
    try RegionRules(files.0).run(into: &result)
    try notifiers(files, devices, into: &result)
    try withoutRegion(into: &result)
    withExtendedLifetime(raw) {}
    return result
  }

  private static func notifiers(
    _ files: (KernelFile, KernelFile), _ devices: [PinningDevice], into result: inout LabResult
  ) throws {
    for device in devices { try device.clearOrders() }
    let statuses = [MigrationStatus.cancelled, .failed]
    // A migration that is completed cannot be given up.
    let steps = RegionNotifiers.Step.allCases.prefix { $0 != .completed }
    for status in statuses {
      for step in steps {
        for paused in [false, true] {
          guard !paused || step != .precopyChunks else { continue }
          try RegionNotifiers(files).give(up: status, after: step, paused: paused, into: &result)
          for file in [files.0, files.1] { _ = file.control(0x3b6f) }
        }
      }
    }
    for number in 1...2 {
      try RegionNotifiers(files).run("move \(number)", into: &result)
      let same = try devices[0].memory() == devices[1].memory()
      result.check("move \(number): the devices' memory is equal", same)
      // What stands at the source now is nobody's.
      _ = files.0.control(0x3b6f)
      fill(devices[0], number)
    }
    let refused = try devices.flatMap { try $0.journal() }.filter { $0.kind == .refused }
    result.check(
      "in all of that the driver refused nothing", refused.isEmpty, "\(refused.prefix(4))")
  }

  private static func fill(_ device: PinningDevice, _ number: Int) {
    let bytes = (0..<PinningDevice.memoryByteCount).map {
      UInt8(truncatingIfNeeded: ($0 &* 31) ^ ($0 >> 8) ^ number)
    }
    _ = device.file.write(bytes, at: PinningDevice.memoryOffset)
  }

  /// Neither region nor feature: no migration begins, and the sentence names the device.
  private static func withoutRegion(into result: inout LabResult) throws {
    let name = try PinningDevice.create(3, type: "bare")
    let raw = try RawContainer(devices: [PinningDevice.path(name)])
    let file = try raw.openDevice(name)
    let device = VFIODevice(
      name: name, descriptor: VFIODescriptor(file.descriptor, ownership: .borrowed))
    result.check("a bare device has no region", try VFIODeviceMigrationV1(device: device) == nil)
    let migratable = MigratableDeviceV2(
      name: name, migration: VFIODeviceMigrationV2(device: device))
    let ram = try GuestRAM(layout: GuestLayout(byteCount: 1 << 20))
    let blockers = MigrationBlocker.find(
      devices: [MigratingDevice(migratable)], regions: ram.ramRegions, trackingBlockers: [],
      policy: MigrationPolicy())
    result.check(
      "it blocks a migration by name",
      blockers.count == 1 && "\(blockers[0])".contains("device \(name) has no migration interface"),
      "\(blockers)")
    withExtendedLifetime(raw) {}
  }
}
