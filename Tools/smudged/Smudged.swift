import ArgumentParser
import Foundation
import TrackerService

/// The command line of the service.
@main enum Entry {
  static func main() {
    // Before any thread: each takes over what is blocked here.
    Signals.prepare()
    exit(status())
  }

  private static func status() -> Int32 {
    do {
      let command = try SmudgedCommand.parse()
      return try command.run()
    } catch let error as ConfigurationError {
      say("smudged: \(error)", to: .standardError)
      return ServiceStatus.usage.rawValue
    } catch {
      let code = SmudgedCommand.exitCode(for: error)
      let text = SmudgedCommand.fullMessage(for: error)
      guard code == .success else {
        say(text, to: .standardError)
        return ServiceStatus.usage.rawValue
      }
      return say(text, to: .standardOutput)
    }
  }

  /// - Returns: the exit status: what was asked for and did not get out is no success.
  @discardableResult
  static func say(_ text: String, to handle: FileHandle) -> Int32 {
    do {
      try handle.write(contentsOf: Data((text + "\n").utf8))
      return ServiceStatus.ended.rawValue
    } catch {
      return ServiceStatus.failed.rawValue
    }
  }
}

/// How the service ends.
enum ServiceStatus: Int32 {
  /// In good order, by SIGTERM or SIGINT; or there was nothing to do but to check.
  case ended = 0
  case failed = 1
  /// The command line or the configuration cannot be meant: nothing was begun.
  case usage = 2
}

struct SmudgedCommand: ParsableArguments {
  static let version = "0.1.0"

  @OptionGroup var options: VMOptions

  @Flag(help: "Check the configuration and end: status 0, or 2 with what is wrong.")
  var checkConfig = false

  @Flag(help: "Print the configuration in effect, as a file for --config, and end.")
  var printConfig = false

  @Option(help: "How lines go to standard error: plain or journal. Found out if not given.")
  var logFormat: String?

  @Flag(help: "Print the version and end.")
  var version = false

  func run() throws -> Int32 {
    if version { return Entry.say("smudged \(Self.version)", to: .standardOutput) }
    let log = ServiceLog(format: try logFormatGiven())
    let vms = try options.configurations()
    if printConfig { return Entry.say(ConfigurationText.of(vms), to: .standardOutput) }
    if checkConfig { return ServiceStatus.ended.rawValue }
    // A configuration that is refused takes neither sockets nor the manager's attention.
    let sockets = try InheritedSockets.take()
    return ServiceRun(
      vms: vms, log: log, notification: .take(),
      start: { configuration in try startVM(configuration, sockets, log) },
      awaitEnd: Signals.awaitEnd, unused: { sockets.names }
    ).run()
  }

  private func logFormatGiven() throws(ConfigurationError) -> ServiceLog.Format? {
    guard let logFormat else { return nil }
    guard let format = ServiceLog.Format(rawValue: logFormat) else {
      throw ConfigurationError(
        .option("--log-format"),
        .unknownFormat(logFormat, known: ServiceLog.Format.allCases.map(\.rawValue)))
    }
    return format
  }
}

extension SmudgedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "smudged",
    abstract: "Beside an unmodified QEMU: tells it which pages vfio-user devices wrote.",
    usage: """
      smudged --vm NAME --device [NAME:]VMM_SOCK=SERVER_SOCK ... --companion SOCK [OPTIONS]
      smudged --config FILE.toml
      """,
    discussion: """
      One process may serve several VMs; that takes a file. Example:
        smudged --vm web --device disk:/run/web/disk.vmm=/run/web/disk.server \\
          --companion /run/web/companion
      The same as a file, which --print-config writes:
        [[vm]]
        name = "web"
        companion = "/run/web/companion"

        [[vm.device]]
        name = "disk"
        vmm = "/run/web/disk.vmm"
        server = "/run/web/disk.server"

      It stays in the foreground. SIGTERM and SIGINT end it in good order, a second one at once.

      Exit status:
        0  it ended in good order
        1  the service failed
        2  the command line or the configuration cannot be meant: nothing was begun
      """)
}
