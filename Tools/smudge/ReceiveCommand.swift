import ArgumentParser
import DeviceMigration
import Foundation
import MigrationTransport
import Simulation

struct ReceiveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "receive",
    abstract: "Waits for a sample machine, takes it in, and has it compared byte for byte.",
    usage: """
      smudge receive --listen ADDRESS [OPTIONS]
      smudge receive --from FILE [OPTIONS]
      """,
    discussion: "Give the same --memory and --devices as the source, or it is refused by name.")

  @Option(help: "Where to wait: unix:PATH or tcp:HOST:PORT.")
  var listen: String?

  @Option(help: "Take the stream from this file, as `smudge migrate --to file:PATH` wrote it.")
  var from: String?

  @Option(
    help: "Take it into real devices: /dev/vfio/N or /dev/vfio/devices/vfioN. Not for a sample.")
  var device: String?

  @OptionGroup var machine: MachineArguments
  @OptionGroup var tls: TLSArguments

  @Flag(help: "Print nothing but errors.")
  var quiet = false

  @Option(help: ArgumentHelp("End with this process.", visibility: .hidden))
  var childOf: Int32?

  func validate() throws {
    guard (listen != nil) != (from != nil) else {
      throw ValidationError("say --listen ADDRESS or --from FILE, one of the two")
    }
    let waits: MigrationAddress
    do { waits = try address } catch { throw ValidationError("\(error)") }
    try tls.check(waits)
  }

  var address: MigrationAddress {
    get throws(AddressError) {
      if let from { return .file(path: from) }
      return try MigrationAddress(listen ?? "")
    }
  }

  func run() throws {
    let parent = childOf.map { ParentProcess($0) }
    defer { withExtendedLifetime(parent) {} }
    do {
      try DescriptorCheck.run()
      if let device { return try DeviceRun.receive(device, self) }
      try SampleReceiver(self).run()
    } catch let code as ExitCode { throw code } catch { throw ToolError(before: error) }
  }

  func say(_ text: String) {
    guard !quiet else { return }
    Output.line(text)
  }
}

/// The time of this process.
enum Clock {
  /// Never goes back.
  static func nanoseconds() -> UInt64 { DispatchTime.now().uptimeNanoseconds }
}
