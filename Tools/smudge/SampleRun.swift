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
    /// Nil where the stream went to where nobody can be asked: a file, an open descriptor.
    let verdict: SampleVerdict?
    /// Where the guest is now.
    let guest: GuestPlace
    /// Pages written by devices only, after the first pass had sent everything: no tracker of
    /// processors finds these.
    let deviceOnlyPages: UInt64
    let containers: [ContainerDescription]
    let driverCounts: [(kind: SampleContainer.Kind, counts: GuestDriver.Counts)]
    /// By device: DMA writes, and those that no mapping let through.
    let deviceWrites: [(done: UInt64, refused: UInt64)]
    let cpuSource: String
    let recorded: Recording.Written?
    /// The guest has moved, and its record is not whole.
    let recordFailure: ToolError?
    let notes: [String]
  }

  let command: MigrateCommand
  private let connection: SourceConnection
  private let token = UInt64.random(in: 1...UInt64.max)

  init(_ command: MigrateCommand) throws(ToolError) {
    self.command = command
    connection = try SourceConnection(command)
  }

  func run() throws -> Result {
    try AvailableMemory.check(try command.machine.memoryByteCount, hasChild: command.to == nil)
    var options = try command.machine.sampleOptions()
    let (recordings, traceNotes) = try Recordings.load(command.trace)
    options.recordings = recordings
    options.omitting = command.broken?.tracker ?? []
    options.vcpusStayStopped = command.vcpusStayStopped
    let recording = try command.record.map { try Recording($0) }
    let failureRecord = recording == nil ? FailureRecord() : nil
    options.record = recording?.record ?? failureRecord?.record
    let child = command.to == nil ? try SecondProcess(command.machine) : nil
    let machine = try SampleMachine(options)
    var notes = traceNotes
    if let reason = machine.fallbackReason {
      notes.append("vCPU writes are marked by the guest's threads: \(reason)")
    }
    let display = ProgressDisplay(machine, isQuiet: command.json)
    display.opening(options)
    do throws(ToolError) {
      let (report, channel) = try migrate(machine, child, display)
      let deviceOnly = UInt64(machine.ledger.pagesOnlyDevicesWrote().count)
      let verdict = try compare(machine, child, report)
      display.close()
      machine.shutDown()
      _ = child?.wait()
      let (recorded, recordFailure) = write(recording, machine)
      return Result(
        command: command, report: report, verdict: verdict,
        guest: channel.isBidirectional ? .destination : .stream, deviceOnlyPages: deviceOnly,
        containers: machine.tracker.containers,
        driverCounts: machine.containers.map { ($0.kind, $0.driver.counts) },
        deviceWrites: report.devices.map { device in
          let own = machine.devices.first { $0.name == device.name }
          return (own?.writeCount ?? 0, own?.refusedCount ?? 0)
        },
        cpuSource: machine.cpuSource.name, recorded: recorded, recordFailure: recordFailure,
        notes: notes + report.notes)
    } catch {
      display.close()
      machine.shutDown()
      var failure = error
      let (recorded, recordFailure) = write(recording, machine)
      if let recorded { display.recorded(recorded) }
      if let recordFailure { failure.failure.notes.append(recordFailure.description) }
      if let note = failureRecord?.write(machine.tracker, after: failure) {
        failure.failure.notes.append(note)
        display.recorded(note)
      }
      throw failure
    }
  }

  private func write(
    _ recording: Recording?, _ machine: SampleMachine
  ) -> (Recording.Written?, ToolError?) {
    do throws(ToolError) {
      return (try recording?.write(machine.tracker), nil)
    } catch {
      var failure = ToolError(error.description, .notVerified)
      failure.isAfterReport = true
      return (nil, failure)
    }
  }

  private func migrate(
    _ machine: SampleMachine, _ child: SecondProcess?, _ display: ProgressDisplay
  ) throws(ToolError) -> (MigrationReport, any ByteChannel) {
    let source = try start(machine, display)
    return try connection.migrate(
      source, to: child, devices: machine.devices.map(\.migratable),
      isRunning: { machine.isRunning }
    ) { display.watchdog = $0 }
  }

  private func start(
    _ machine: SampleMachine, _ display: ProgressDisplay
  ) throws(ToolError) -> MigrationSource {
    do throws(SampleError) {
      try machine.boot()
      try machine.start()
    } catch {
      throw ToolError(error.description)
    }
    // So that the migration meets a guest in the middle of its work.
    usleep(200_000)
    var policy = MigrationPolicy()
    policy.downtimeLimitNanoseconds = UInt64(command.limit) * 1_000_000
    policy.guestUsesPeerToPeer = false
    // The guest opens its second queues after the first round; their dirt is part of the proof.
    policy.roundCountMin = 3
    command.atLimit.apply(to: &policy)
    let source = MigrationSource(
      machine: machine, tracking: machine.tracker, memory: machine.ram,
      devices: machine.migratingDevices, policy: policy, clock: Clock.nanoseconds,
      observer: display, omitting: command.broken?.migration ?? [])
    source.token = token
    return source
  }

  /// Nil where nobody can be asked.
  private func compare(
    _ machine: SampleMachine, _ child: SecondProcess?, _ report: MigrationReport
  ) throws(ToolError) -> SampleVerdict? {
    guard child != nil || connection.address?.canConnectAgain == true else { return nil }
    do {
      return try SampleVerification.ask(
        machine, over: try connection.connect(child, nil), token: token)
    } catch {
      var failure = ToolFailure()
      failure.phase = "comparison"
      failure.cause = "\(error)"
      failure.guest = .destination
      failure.notes = report.notes
      failure.devices = report.devices.map {
        ToolFailure.Device(
          name: $0.name, state: $0.states.last.map { "\($0)" } ?? "-", isLost: false,
          became: "moved to the destination")
      }
      throw ToolError(
        "the guest has moved to the destination, and whether anything is missing there is not "
          + "known: \(error)", nil, failure)
    }
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
