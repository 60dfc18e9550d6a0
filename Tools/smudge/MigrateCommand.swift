import ArgumentParser
import DeviceMigration
import DirtyTracker
import Foundation
import MigrationTransport
import Simulation

/// A step that is left out on purpose.
enum BrokenStep: String, CaseIterable, ExpressibleByArgument {
  case unmap, query, pinned, rearm
  case finalSync = "final-sync"
  case putBack = "put-back"

  var tracker: Set<TrackerOmission> { TrackerOmission(rawValue: rawValue).map { [$0] } ?? [] }
  var migration: Set<MigrationOmission> { MigrationOmission(rawValue: rawValue).map { [$0] } ?? [] }
}

struct MigrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "migrate",
    abstract: "Migrates a machine live, and compares every byte of it afterwards.",
    usage: """
      smudge migrate --sample [OPTIONS]
      smudge migrate --device PATH --to ADDRESS [OPTIONS]
      """,
    discussion: """
      The sample machine has devices behind a virtual IOMMU in three containers: dirty bits of the
      IOMMU, pages pinned by a mediated device, a device that logs its own DMA in a few ranges. What
      its guest maps and unmaps was recorded from a real Linux guest.

      With --device real devices migrate to a `smudge receive --device`, with RAM that is mapped
      for them one to one: those of a VFIO group by type1 (/dev/vfio/N), or one by iommufd
      (/dev/vfio/devices/vfioN). What arrives is compared before it runs.
      """)

  @Flag(help: "Migrate the sample machine.")
  var sample = false

  @Option(
    help: "Migrate real devices: a VFIO group, /dev/vfio/N, or one device, /dev/vfio/devices/vfioN."
  )
  var device: String?

  @OptionGroup var machine: MachineArguments
  @OptionGroup var tls: TLSArguments

  @Option(help: "An ftrace recording of iommu events to use as the guest's IOMMU traffic.")
  var trace: String?

  @Option(help: "The longest downtime wanted, in milliseconds.")
  var limit = 100

  @OptionGroup var atLimit: LimitArguments

  @Option(
    help: """
      The longest the guest may stand still, in milliseconds, before the migration is given up and \
      it runs on here. Default: ten times --limit, or three times what is predicted.
      """)
  var stopLimit: Int?

  @Option(help: "Where a `smudge receive` waits: unix:PATH or tcp:HOST:PORT. Default: a child.")
  var to: String?

  @Option(name: .customLong("break"), help: "Leave out one step, to see the verdict fail.")
  var broken: BrokenStep?

  @Flag(
    help: ArgumentHelp(
      "What cannot be resumed after a failure stands still here, to see status 6.",
      visibility: .hidden))
  var vcpusStayStopped = false

  @Option(
    help: """
      Write what the tracker was told and answered to this file, for `smudge replay`. Without it \
      the last 64 MiB of that are kept in memory, and go to a file in the temporary folder, or in \
      the one that SMUDGE_RECORDS names, when the migration fails.
      """)
  var record: String?

  @Flag(help: "One JSON document instead of text.")
  var json = false

  /// A second at least: what is on time need not be exact.
  var stopLimitMilliseconds: Int { stopLimit ?? max(limit * 10, 1000) }

  func validate() throws {
    guard sample != (device != nil) else {
      throw ValidationError("say --sample or --device PATH, one of the two")
    }
    if device != nil {
      guard to != nil else { throw ValidationError("--device needs --to: a `smudge receive`") }
      guard trace == nil, broken == nil, record == nil, !json else {
        throw ValidationError("--trace, --break, --record and --json belong to --sample")
      }
    }
    guard (1...3_600_000).contains(limit) else {
      throw ValidationError("--limit is 1 to 3600000 milliseconds")
    }
    guard (limit...36_000_000).contains(stopLimitMilliseconds) else {
      throw ValidationError("--stop-limit is --limit to 36000000 milliseconds")
    }
    if let to {
      let address: MigrationAddress
      do { address = try MigrationAddress(to) } catch { throw ValidationError("\(error)") }
      try tls.check(address)
    }
  }

  func run() throws {
    do {
      try DescriptorCheck.run(startsChild: device == nil && to == nil)
      if let device { return try DeviceRun.migrate(device, self) }
      let result = try SampleRun(self).run()
      if json { try JSONReport.print(result) } else { TextReport.print(result) }
      if let failure = result.recordFailure { throw failure }
      if result.verdict?.isEqual == true, result.report.missedLimit {
        throw ExitCode(ToolStatus.limitMissed.rawValue)
      }
      if result.verdict?.isEqual == false { throw ExitCode(ToolStatus.different.rawValue) }
    } catch let code as ExitCode {
      throw code
    } catch {
      let failure = ToolError(before: error)
      // A report that is out already says where the guest is.
      if json, !failure.isAfterReport {
        try JSONReport.print(encoding: FailureDocument(failure))
      }
      throw failure
    }
  }
}
