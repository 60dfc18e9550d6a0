import ArgumentParser
import Foundation

/// The command line of Smudge.
@main enum Entry {
  static func main() {
    // The child of a sample closes its end when it is done; that is an answer, not a signal.
    signal(SIGPIPE, SIG_IGN)
    Output.reserveStandardStreams()
    exit(Output.finish(status()))
  }

  private static func status() -> Int32 {
    do {
      guard CommandLine.arguments.count > 1 else {
        Terminal.error(Smudge.helpMessage())
        return ToolStatus.usage.rawValue
      }
      var command = try Smudge.parseAsRoot()
      try command.run()
      return 0
    } catch let code as ExitCode {
      return code.rawValue
    } catch let error as ToolError {
      Terminal.error("smudge: \(error)")
      return error.status.rawValue
    } catch {
      let code = Smudge.exitCode(for: error)
      let text = Smudge.fullMessage(for: error)
      if code == .success { Output.line(text) } else { Terminal.error(text) }
      return code == .success ? 0 : ToolStatus.usage.rawValue
    }
  }
}

struct Smudge: ParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "smudge",
    abstract: "Which guest pages did devices write, and does this machine migrate without loss?",
    discussion: """
      Examples:
        smudge migrate --sample                a sample machine, to a second process
        smudge migrate --sample --break unmap  the same with one step left out: must fail
        smudge receive --listen tcp:[::1]:4444     a destination, then
        smudge migrate --sample --to tcp:[::1]:4444
        smudge migrate --sample --record run.trace    what the tracker saw, to a file, then
        smudge replay run.trace                       the same state from it, bit for bit

      Exit status, which says where the guest is:
        0  it has moved, and nothing differs; or its stream is whole in a file
        1  it has moved, and pages or devices differ
        2  usage: nothing was begun
        3  the migration failed: the guest runs on here, or nothing was begun
        4  nobody knows: the destination was told to start and did not answer
        5  it has moved, but the verdict is missing or could not be written
        6  the migration failed: the guest is here and does not run
        7  it has moved, after a stop longer than --limit, by --on-limit stop-anyway
        130, 143  interrupted, by SIGINT or SIGTERM: the guest runs on here
      """,
    version: version,
    subcommands: [MigrateCommand.self, ReceiveCommand.self, ReplayCommand.self])
}
