import DeviceMigration
import Foundation
import MigrationTransport
import Simulation
import VFIOKernel

/// `smudge migrate --device` and `smudge receive --device`: the sending and the receiving side of
/// real devices. The receiver holds every page against a digest of the sender's.
enum DeviceRun {
  static func migrate(_ path: String, _ command: MigrateCommand) throws {
    let machine = try DeviceMachine(
      path: path, memoryByteCount: try command.machine.memoryByteCount)
    let address = try MigrationAddress(command.to ?? "")
    let timeout = command.machine.timeoutMilliseconds
    machine.boot(seed: command.machine.seed)
    var policy = MigrationPolicy()
    policy.downtimeLimitNanoseconds = UInt64(command.limit) * 1_000_000
    policy.guestUsesPeerToPeer = false
    let source = MigrationSource(
      machine: machine, tracking: machine.tracker, memory: machine.ram,
      devices: machine.devices.map { MigratingDevice($0, startsPeerToPeer: false) },
      policy: policy, clock: Clock.nanoseconds)
    let channel = try MigrationTransport.connect(to: address, timeoutMilliseconds: timeout)
    let report = try source.run(over: channel)
    for warning in machine.attachment.takeWarnings() { print("note  \(warning)") }
    for note in report.notes { print("note  \(note)") }
    for device in report.devices {
      print(
        "\(device.name): \(device.interface), "
          + "\(ByteCount.text(device.precopyBytes)) before the stop, "
          + "\(ByteCount.text(device.stopCopyBytes)) after it")
    }
    print(
      "\(report.rounds.count) rounds, \(ByteCount.text(report.streamBytes)), downtime "
        + ByteCount.duration(report.downtime.totalNanoseconds))
  }

  static func receive(_ path: String, _ command: ReceiveCommand) throws {
    let machine = try DeviceMachine(
      path: path, memoryByteCount: try command.machine.memoryByteCount)
    let listener = try MigrationTransport.listen(on: try MigrationAddress(command.listen))
    command.say("waiting on \(listener.address)")
    let channel = try listener.accept(timeoutMilliseconds: command.machine.timeoutMilliseconds)
    let destination = MigrationDestination(
      machine: machine, memory: machine.ram, regions: machine.ram.ramRegions,
      devices: machine.devices, clock: Clock.nanoseconds)
    let report = try destination.receive(from: channel)
    command.say(
      "arrived: \(report.roundCount) rounds, \(ByteCount.text(report.streamBytes)), guest started "
        + "in \(ByteCount.duration(report.startNanoseconds)), "
        + "\(machine.pagesCompared) pages compared and equal")
  }
}
