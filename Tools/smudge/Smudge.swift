import ArgumentParser
import Foundation

/// The command line of Smudge.
@main enum Entry {
  static func main() {
    // The child of a sample closes its end when it is done; that is an answer, not a signal.
    signal(SIGPIPE, SIG_IGN)
    do {
      guard CommandLine.arguments.count > 1 else {
        Terminal.error(Smudge.helpMessage())
        exit(ToolStatus.usage.rawValue)
      }
      var command = try Smudge.parseAsRoot()
      try command.run()
    } catch let code as ExitCode {
      exit(code.rawValue)
    } catch let error as ToolError {
      Terminal.error("smudge: \(error)")
      exit(error.status.rawValue)
    } catch {
      let code = Smudge.exitCode(for: error)
      let text = Smudge.fullMessage(for: error)
      if code == .success { print(text) } else { Terminal.error(text) }
      exit(code == .success ? 0 : ToolStatus.usage.rawValue)
    }
  }
}

struct Smudge: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "smudge",
    abstract: "Which guest pages did devices write, and does this machine migrate without loss?",
    discussion: """
      Examples:
        smudge migrate --sample                a sample machine, to a second process
        smudge migrate --sample --break unmap  the same with one step left out: must fail
        smudge receive --listen tcp:[::1]:4444 on the destination, then
        smudge migrate --sample --to tcp:[::1]:4444
        smudge migrate --sample --record run.trace    what the tracker saw, to a file, then
        smudge replay run.trace                       the same state from it, bit for bit

      Exit status: 0 nothing differs; 1 pages or devices differ; 2 usage; 3 the migration failed;
      130 it was interrupted.
      """,
    version: "0.1.0",
    subcommands: [MigrateCommand.self, ReceiveCommand.self, ReplayCommand.self])
}

/// How the tool ends.
enum ToolStatus: Int32 {
  case different = 1
  case usage = 2
  case failed = 3
  /// By SIGINT, as a shell counts it.
  case interrupted = 130
}

/// What went wrong, as a sentence.
struct ToolError: Error, CustomStringConvertible {
  let description: String
  let status: ToolStatus

  init(_ description: String, _ status: ToolStatus = .failed) {
    self.description = description
    self.status = status
  }
}
