import ArgumentParser
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
    let connection = try SourceConnection(command)
    machine.boot(seed: command.machine.seed)
    var policy = MigrationPolicy()
    policy.downtimeLimitNanoseconds = UInt64(command.limit) * 1_000_000
    policy.guestUsesPeerToPeer = false
    command.atLimit.apply(to: &policy)
    let observer = WatchdogObserver()
    let source = MigrationSource(
      machine: machine, tracking: machine.tracker, memory: machine.ram,
      devices: machine.devices.map { MigratingDevice($0, startsPeerToPeer: false) },
      policy: policy, clock: Clock.nanoseconds, observer: observer)
    let report: MigrationReport
    do throws(ToolError) {
      (report, _) = try connection.migrate(
        source, devices: machine.devices, isRunning: { machine.isRunning }
      ) { observer.watchdog = $0 }
    } catch {
      var failure = error
      if let note = machine.failureRecord.write(machine.tracker, after: failure) {
        failure.failure.notes.append(note)
        Output.line("note  \(note)")
      }
      throw failure
    }
    withExtendedLifetime(observer) {}
    for warning in machine.attachment.takeWarnings() { Output.line("note  \(warning)") }
    for note in report.notes { Output.line("note  \(note)") }
    for device in report.devices {
      Output.line(
        "\(device.name): \(device.interface), "
          + "\(ByteCount.text(device.precopyBytes)) before the stop, "
          + "\(ByteCount.text(device.stopCopyBytes)) after it")
    }
    Output.line(
      "\(report.rounds.count) rounds, \(ByteCount.text(report.streamBytes)), downtime "
        + ByteCount.duration(report.downtime.totalNanoseconds))
    if report.missedLimit { throw ExitCode(ToolStatus.limitMissed.rawValue) }
  }

  static func receive(_ path: String, _ command: ReceiveCommand) throws {
    let machine = try DeviceMachine(
      path: path, memoryByteCount: try command.machine.memoryByteCount)
    let listener = try MigrationTransport.listen(on: try command.address)
    command.say("waiting on \(listener.address)")
    command.tls.warn(listener.address)
    let tls = try command.tls.context()
    let destination = MigrationDestination(
      machine: machine, memory: machine.ram, regions: machine.ram.ramRegions,
      devices: machine.devices, clock: Clock.nanoseconds)
    _ = try StreamReception(command: command, tls: tls).guest(into: destination, from: listener)
    let report = destination.report
    command.say(
      "arrived: \(report.roundCount) rounds, \(ByteCount.text(report.streamBytes)), guest started "
        + "in \(ByteCount.duration(report.startNanoseconds)), "
        + "\(machine.pagesCompared) pages compared and equal")
  }
}
