import Addressing
import DeviceMigration
import DirtyTracker
import Foundation
import GuestDirtyLog
import MigrationTransport
import PageBitmap
import Simulation

/// One migration of the sample machine, from its start to the verdict.
struct SampleRun {
  struct Result {
    let command: MigrateCommand
    let report: MigrationReport
    let verdict: SampleVerdict
    /// Pages written by devices only, after the first pass had sent everything: no tracker of
    /// processors finds these.
    let deviceOnlyPages: UInt64
    let containers: [ContainerDescription]
    let driverCounts: [(kind: SampleContainer.Kind, counts: GuestDriver.Counts)]
    /// By device: DMA writes, and those that no mapping let through.
    let deviceWrites: [(done: UInt64, refused: UInt64)]
    let cpuSource: String
    let notes: [String]
  }

  let command: MigrateCommand

  init(_ command: MigrateCommand) { self.command = command }

  func run() throws -> Result {
    var options = try command.machine.sampleOptions()
    let (recordings, traceNotes) = try Recordings.load(command.trace)
    options.recordings = recordings
    options.omitting = command.broken?.tracker ?? []
    let child = command.to == nil ? try SecondProcess(command.machine) : nil
    let machine = try SampleMachine(options)
    var notes = traceNotes
    if let reason = machine.fallbackReason {
      notes.append("vCPU writes are marked by the guest's threads: \(reason)")
    }
    let display = ProgressDisplay(machine, isQuiet: command.json)
    display.opening(options)
    try machine.boot()
    try machine.start()
    defer { machine.shutDown() }
    // So that the migration meets a guest in the middle of its work.
    usleep(200_000)
    var policy = MigrationPolicy()
    policy.downtimeLimitNanoseconds = UInt64(command.limit) * 1_000_000
    policy.guestUsesPeerToPeer = false
    // The guest opens its second queues after the first round; their dirt is part of the proof.
    policy.roundCountMin = 3
    let source = MigrationSource(
      machine: machine, tracking: machine.tracker, memory: machine.ram,
      devices: machine.migratingDevices, policy: policy, clock: Clock.nanoseconds,
      observer: display, omitting: command.broken?.migration ?? [])
    let report = try source.run(over: try connect(child))
    let deviceOnly = UInt64(machine.ledger.pagesOnlyDevicesWrote().count)
    let verdict = try SampleVerification.ask(machine, over: try connect(child))
    display.close()
    _ = child?.wait()
    return Result(
      command: command, report: report, verdict: verdict, deviceOnlyPages: deviceOnly,
      containers: machine.tracker.containers,
      driverCounts: machine.containers.map { ($0.kind, $0.driver.counts) },
      deviceWrites: report.devices.map { device in
        let own = machine.devices.first { $0.name == device.name }
        return (own?.writeCount ?? 0, own?.refusedCount ?? 0)
      },
      cpuSource: machine.cpuSource.name, notes: notes + report.notes)
  }

  private func connect(_ child: SecondProcess?) throws -> FileDescriptorChannel {
    if let child { return try child.connect() }
    return try MigrationTransport.connect(
      to: try MigrationAddress(command.to ?? ""), timeoutMilliseconds: 60_000)
  }
}
