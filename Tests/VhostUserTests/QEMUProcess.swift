import Foundation
import Glibc

/// An unmodified QEMU of this machine, driven over QMP. It is paused, and has a vhost-user-blk
/// device at `companion`.
final class QEMUProcess {
  static let program = "/usr/bin/qemu-system-x86_64"
  static var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: program) }

  static var isSanitized: Bool {
    ProcessInfo.processInfo.environment["SMUDGE_SANITIZER"] != nil
  }

  private let process = Process()
  private let commands = Pipe()
  private let answers = Pipe()
  private let messages = Pipe()
  private var buffer = Data()

  /// Answers and events that were read, for a failing test to show.
  private(set) var transcript: [String] = []

  init(companion: String, megabytes: Int) throws {
    signal(SIGPIPE, SIG_IGN)
    process.executableURL = URL(fileURLWithPath: Self.program)
    process.arguments = [
      "-machine", "q35,accel=tcg,memory-backend=mem", "-m", "\(megabytes)M",
      "-object", "memory-backend-memfd,id=mem,size=\(megabytes)M,share=on",
      "-chardev", "socket,id=c,path=\(companion)",
      "-device", "vhost-user-blk-pci,chardev=c,num-queues=1,disable-legacy=on,bootindex=1",
      "-nodefaults", "-display", "none", "-S", "-qmp", "stdio",
    ]
    process.standardInput = commands
    process.standardOutput = answers
    process.standardError = messages
    try process.run()
    // A QEMU that hangs is a failed test, not one that never ends.
    let process = process
    DispatchQueue.global().asyncAfter(deadline: .now() + 500) {
      if process.isRunning { process.terminate() }
    }
  }

  deinit {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
  }

  /// The next line with one of these texts; nil when QEMU has ended.
  func line(with texts: String...) -> String? {
    while true {
      while let end = buffer.firstIndex(of: 10) {
        let line = String(decoding: buffer[buffer.startIndex..<end], as: UTF8.self)
        buffer = Data(buffer[(end + 1)...])
        transcript.append(line)
        if texts.contains(where: line.contains) { return line }
      }
      let more = answers.fileHandleForReading.availableData
      if more.isEmpty { return nil }
      buffer += more
    }
  }

  /// Executes a command and waits for its answer.
  @discardableResult
  func execute(_ command: String, _ arguments: String = "{}") -> String? {
    let text = "{\"execute\": \"\(command)\", \"arguments\": \(arguments)}\n"
    commands.fileHandleForWriting.write(Data(text.utf8))
    return line(with: "\"return\"", "\"error\"")
  }

  /// What it printed; ends it.
  func complaints() -> String {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    return String(decoding: messages.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  }
}
