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

  @Option(help: "An ftrace recording of iommu events to use as the guest's IOMMU traffic.")
  var trace: String?

  @Option(help: "The longest downtime wanted, in milliseconds.")
  var limit = 100

  @Option(help: "Where a `smudge receive` waits: unix:PATH or tcp:HOST:PORT. Default: a child.")
  var to: String?

  @Option(name: .customLong("break"), help: "Leave out one step, to see the verdict fail.")
  var broken: BrokenStep?

  @Option(help: "Write what the tracker was told and answered to this file, for `smudge replay`.")
  var record: String?

  @Flag(help: "One JSON document instead of text.")
  var json = false

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
    if let to {
      do { _ = try MigrationAddress(to) } catch { throw ValidationError("\(error)") }
    }
  }

  func run() throws {
    if let device {
      do {
        return try DeviceRun.migrate(device, self)
      } catch let error as ToolError { throw error } catch { throw ToolError("\(error)") }
    }
    let result: SampleRun.Result
    do {
      result = try SampleRun(self).run()
    } catch let error as ToolError { throw error } catch { throw ToolError("\(error)") }
    if json { try JSONReport.print(result) } else { TextReport.print(result) }
    if !result.verdict.isEqual { throw ExitCode(ToolStatus.different.rawValue) }
  }
}
