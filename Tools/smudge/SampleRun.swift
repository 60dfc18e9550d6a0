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
    let recorded: Recording.Written?
    let notes: [String]
  }

  let command: MigrateCommand
  private let interruption = Interruption()

  init(_ command: MigrateCommand) { self.command = command }

  func run() throws -> Result {
    try AvailableMemory.check(try command.machine.memoryByteCount, hasChild: command.to == nil)
    var options = try command.machine.sampleOptions()
    let (recordings, traceNotes) = try Recordings.load(command.trace)
    options.recordings = recordings
    options.omitting = command.broken?.tracker ?? []
    let recording = try command.record.map { try Recording($0) }
    options.record = recording?.record
    let child = command.to == nil ? try SecondProcess(command.machine) : nil
    let machine = try SampleMachine(options)
    var notes = traceNotes
    if let reason = machine.fallbackReason {
      notes.append("vCPU writes are marked by the guest's threads: \(reason)")
    }
    let display = ProgressDisplay(machine, isQuiet: command.json)
    display.opening(options)
    do {
      let (report, deviceOnly, verdict) = try migrate(machine, child, display)
      display.close()
      machine.shutDown()
      _ = child?.wait()
      return Result(
        command: command, report: report, verdict: verdict, deviceOnlyPages: deviceOnly,
        containers: machine.tracker.containers,
        driverCounts: machine.containers.map { ($0.kind, $0.driver.counts) },
        deviceWrites: report.devices.map { device in
          let own = machine.devices.first { $0.name == device.name }
          return (own?.writeCount ?? 0, own?.refusedCount ?? 0)
        },
        cpuSource: machine.cpuSource.name, recorded: try recording?.write(machine.tracker),
        notes: notes + report.notes)
    } catch {
      display.close()
      machine.shutDown()
      if let written = try recording?.write(machine.tracker) {
        display.recorded(written)
      }
      if interruption.isRequested { throw ToolError("\(error)", .interrupted) }
      throw error
    }
  }

  private func migrate(
    _ machine: SampleMachine, _ child: SecondProcess?, _ display: ProgressDisplay
  ) throws -> (MigrationReport, deviceOnlyPages: UInt64, SampleVerdict) {
    try machine.boot()
    try machine.start()
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
    let report = try source.run(over: try connect(child, source.cancellation))
    let deviceOnly = UInt64(machine.ledger.pagesOnlyDevicesWrote().count)
    let verdict = try SampleVerification.ask(machine, over: try connect(child, nil))
    return (report, deviceOnly, verdict)
  }

  private func connect(
    _ child: SecondProcess?, _ request: CancellationRequest?
  ) throws -> FileDescriptorChannel {
    let timeout = command.machine.timeoutMilliseconds
    let channel =
      try child?.connect(timeoutMilliseconds: timeout)
      ?? MigrationTransport.connect(
        to: try MigrationAddress(command.to ?? ""), timeoutMilliseconds: timeout)
    interruption.watch(request, channel)
    if interruption.isRequested { throw ToolError("interrupted before anything was sent") }
    return channel
  }
}

/// What this machine has left for guests.
enum AvailableMemory {
  /// Both machines touch all of their RAM: the source by filling and reading it, the destination by
  /// being compared.
  static func check(_ byteCount: UInt64, hasChild: Bool) throws {
    let (needed, overflow) = byteCount.multipliedReportingOverflow(by: hasChild ? 2 : 1)
    guard let available, overflow || needed > available else { return }
    throw ToolError(
      "a sample of \(ByteCount.text(byteCount)) needs \(ByteCount.text(needed)) here"
        + (hasChild ? ", for source and destination" : "")
        + "; \(ByteCount.text(available)) are available. Give a smaller --memory")
  }

  private static var available: UInt64? {
    guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }),
      let number = line.split(separator: " ").dropFirst().first.flatMap({ UInt64($0) })
    else { return nil }
    return number << 10
  }
}
