import ArgumentParser
import DeviceMigration
import Foundation
import MigrationTransport
import Simulation

struct ReceiveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "receive",
    abstract: "Waits for a sample machine, takes it in, and has it compared byte for byte.",
    usage: "smudge receive --listen ADDRESS [OPTIONS]",
    discussion: "Give the same --memory and --devices as the source, or it is refused by name.")

  @Option(help: "Where to wait: unix:PATH or tcp:HOST:PORT.")
  var listen: String

  @Option(
    help: "Take it into real devices: /dev/vfio/N or /dev/vfio/devices/vfioN. Not for a sample.")
  var device: String?

  @OptionGroup var machine: MachineArguments

  @Flag(help: "Print nothing but errors.")
  var quiet = false

  func validate() throws {
    do { _ = try MigrationAddress(listen) } catch { throw ValidationError("\(error)") }
  }

  func run() throws {
    if let device {
      do {
        return try DeviceRun.receive(device, self)
      } catch let error as ToolError { throw error } catch { throw ToolError("\(error)") }
    }
    let sample: SampleMachine
    do {
      sample = try SampleMachine(try machine.sampleOptions())
    } catch { throw ToolError("\(error)") }
    do {
      let listener = try MigrationTransport.listen(on: try MigrationAddress(listen))
      say("waiting on \(listener.address)")
      let channel = try listener.accept(timeoutMilliseconds: machine.timeoutMilliseconds)
      let destination = MigrationDestination(
        machine: sample, memory: sample.ram, regions: sample.ram.ramRegions,
        devices: sample.devices.map(\.migratable), clock: Clock.nanoseconds)
      let report = try destination.receive(from: channel)
      say(
        "arrived: \(report.roundCount) rounds, \(ByteCount.text(report.streamBytes)), "
          + "guest started in \(ByteCount.duration(report.startNanoseconds))")
      let second = try listener.accept(
        waitMilliseconds: machine.timeoutMilliseconds,
        timeoutMilliseconds: machine.timeoutMilliseconds)
      let verdict = try SampleVerification.answer(sample, over: second)
      say("\(verdict.pagesDifferent) of \(verdict.pagesCompared) pages differ")
      // What arrived is worth something only if it goes on.
      let before = sample.devices.reduce(0) { $0 + $1.writeCount }
      try sample.start()
      usleep(100_000)
      sample.shutDown()
      let after = sample.devices.reduce(0) { $0 + $1.writeCount }
      say("the guest ran on here: \(after - before) DMA writes in 100 ms")
      guard verdict.isEqual else { throw ExitCode(ToolStatus.different.rawValue) }
    } catch let code as ExitCode { throw code } catch { throw ToolError("\(error)") }
  }

  func say(_ text: String) {
    guard !quiet else { return }
    print(text)
    fflush(nil)
  }
}

/// The time of this process.
enum Clock {
  /// Never goes back.
  static func nanoseconds() -> UInt64 { DispatchTime.now().uptimeNanoseconds }
}
