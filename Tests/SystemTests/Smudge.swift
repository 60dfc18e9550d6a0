import Foundation

/// The built tool, run from outside as a user runs it.
final class Smudge {
  struct Outcome {
    let status: Int32
    let isSignal: Bool
    let output: String
    let errors: String

    /// Ended by itself, with that status.
    func exits(_ expected: Int32) -> Bool { !isSignal && status == expected }
    /// The one JSON document on standard output.
    var document: [String: Any]? {
      (try? JSONSerialization.jsonObject(with: Data(output.utf8))) as? [String: Any]
    }
    /// A person can read it: no stack trace, no line of a crash.
    var isReadable: Bool {
      let all = output + errors
      return !isSignal
        && !["Fatal error", "Backtrac", " in smudge at ", "Error Domain"]
          .contains { all.contains($0) }
    }
  }

  /// SMUDGE_TOOL, or beside the test bundle, in the build folder.
  static let path: String = {
    if let named = ProcessInfo.processInfo.environment["SMUDGE_TOOL"] { return named }
    var url = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    for argument in [url.path] + CommandLine.arguments where argument.contains(".xctest") {
      url = URL(fileURLWithPath: argument)
    }
    while url.path != "/" {
      url.deleteLastPathComponent()
      let candidate = url.appendingPathComponent("smudge").path
      if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
    }
    return "smudge"
  }()

  /// The tool exits with everything still alive, and what the standard library then holds counts as
  /// leaked under AddressSanitizer. Leaks of the modules are looked for where they run in process.
  static let environment = ProcessInfo.processInfo.environment.merging(
    ["ASAN_OPTIONS": "detect_leaks=0"]) { _, own in own }

  let process = Process()
  private let folder: URL
  private let out: URL
  private let err: URL

  /// - Parameter output: where standard output goes; a file of its own unless said.
  init(
    _ arguments: [String], environment: [String: String] = [:], output: String? = nil
  ) throws {
    folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("smudge-system-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    // Files: a pipe nobody reads would stop what it is to carry.
    out = folder.appendingPathComponent("out")
    err = folder.appendingPathComponent("err")
    _ = FileManager.default.createFile(atPath: out.path, contents: nil)
    _ = FileManager.default.createFile(atPath: err.path, contents: nil)
    process.executableURL = URL(fileURLWithPath: Self.path)
    process.arguments = arguments
    process.environment = Self.environment
      .merging(["SMUDGE_RECORDS": folder.path]) { _, own in own }
      .merging(environment) { _, own in own }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = try FileHandle(
      forWritingTo: output.map { URL(fileURLWithPath: $0) } ?? out)
    process.standardError = try FileHandle(forWritingTo: err)
    try process.run()
  }

  deinit {
    if process.isRunning { process.terminate() }
    try? FileManager.default.removeItem(at: folder)
  }

  var output: String { Self.text(of: out) }
  var errors: String { Self.text(of: err) }

  /// By a handle: Foundation's reading of a whole file leaks its buffer when the file is empty.
  private static func text(of file: URL) -> String {
    guard let handle = try? FileHandle(forReadingFrom: file),
      let bytes = try? handle.readToEnd()
    else { return "" }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Waits until it has said `text`, or has ended, or for too long.
  func waits(for text: String, seconds: Double = 60) -> Bool {
    let end = Date(timeIntervalSinceNow: seconds)
    while Date() < end {
      if output.contains(text) { return true }
      if !process.isRunning { return output.contains(text) }
      Thread.sleep(forTimeInterval: 0.01)
    }
    return false
  }

  func wait() -> Outcome {
    process.waitUntilExit()
    return Outcome(
      status: process.terminationStatus,
      isSignal: process.terminationReason == .uncaughtSignal, output: output, errors: errors)
  }

  /// What the tool does under a shell: `smudge` in `script` is the built tool.
  static func shell(_ script: String) throws -> Outcome {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("smudge-shell-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let files = ["out", "err"].map { folder.appendingPathComponent($0) }
    for file in files { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
    let shell = Process()
    shell.environment = Self.environment.merging(["SMUDGE_RECORDS": folder.path]) { _, own in own }
    shell.executableURL = URL(fileURLWithPath: "/bin/bash")
    shell.arguments = ["-c", "smudge() { '\(path)' \"$@\"; }; \(script)"]
    shell.standardInput = FileHandle.nullDevice
    shell.standardOutput = try FileHandle(forWritingTo: files[0])
    shell.standardError = try FileHandle(forWritingTo: files[1])
    try shell.run()
    shell.waitUntilExit()
    return Outcome(
      status: shell.terminationStatus, isSignal: shell.terminationReason == .uncaughtSignal,
      output: text(of: files[0]), errors: text(of: files[1]))
  }

  static func run(_ arguments: String...) throws -> Outcome { try Smudge(arguments).wait() }

  /// A path that nobody else has, short enough for a socket.
  static func temporaryPath(_ name: String) -> String {
    "/tmp/smudge-\(UInt32.random(in: 0...UInt32.max))-\(name)"
  }
}
