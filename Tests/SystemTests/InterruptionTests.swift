import DeviceMigration
import Foundation
import MigrationTransport
import Testing

/// Signals, silence and processes that are gone.
@Suite(.serialized) struct InterruptionTests {
  /// A limit it never reaches, so that there is time.
  private static let long = ["migrate", "--sample", "--memory", "16M", "--limit", "1"]

  @Test func `SIGTERM gives up in good order, and is 143`() throws {
    let sender = try Smudge(Self.long + ["--json"])
    // In JSON nothing is said before the end.
    Thread.sleep(forTimeInterval: 1)
    kill(sender.process.processIdentifier, SIGTERM)
    let outcome = sender.wait()
    #expect(outcome.exits(143) && outcome.isReadable, "\(outcome)")
    #expect(outcome.document?["exitStatus"] as? Int == 143)
    #expect(outcome.document?["guest"] as? String == "source", "\(outcome)")
  }

  @Test func `no temporary folder stays, also after a second signal`() throws {
    let folder = Smudge.temporaryPath("tmp")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let sender = try Smudge(Self.long, environment: ["TMPDIR": folder])
    #expect(sender.waits(for: "round 1"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).count == 1)
    kill(sender.process.processIdentifier, SIGINT)
    kill(sender.process.processIdentifier, SIGTERM)
    let outcome = sender.wait()
    #expect(!outcome.isSignal && (outcome.status == 130 || outcome.status == 143), "\(outcome)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
  }

  /// Processes of the tool whose arguments name `text`.
  private func processes(naming text: String) -> [Int] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return all.compactMap { Int($0) }.filter { number in
      guard
        let handle = try? FileHandle(
          forReadingFrom: URL(fileURLWithPath: "/proc/\(number)/cmdline")),
        let bytes = try? handle.readToEnd()
      else { return false }
      let line = String(decoding: bytes, as: UTF8.self)
      return line.contains("receive") && line.contains(text)
    }
  }

  @Test func `a child whose parent was killed ends by itself`() throws {
    let folder = Smudge.temporaryPath("tmp")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let sender = try Smudge(Self.long, environment: ["TMPDIR": folder])
    var children: [Int] = []
    for _ in 0..<3000 where children.isEmpty {
      Thread.sleep(forTimeInterval: 0.01)
      children = processes(naming: folder)
    }
    #expect(children.count == 1)
    kill(sender.process.processIdentifier, SIGKILL)
    _ = sender.wait()
    for _ in 0..<3000 where !processes(naming: folder).isEmpty {
      Thread.sleep(forTimeInterval: 0.01)
    }
    #expect(processes(naming: folder).isEmpty)
  }

  @Test func `a connect nobody answers obeys the timeout, and the first signal`() throws {
    let path = Smudge.temporaryPath("socket")
    let listener = try MigrationTransport.listen(on: MigrationAddress("unix:\(path)"))
    // The line is filled until nobody more gets in.
    var waiting: [FileDescriptorChannel] = []
    while waiting.count < 1000 {
      guard
        let next = try? MigrationTransport.connect(
          to: MigrationAddress("unix:\(path)"), timeoutMilliseconds: 300)
      else { break }
      waiting.append(next)
    }
    #expect(waiting.count < 1000)
    let address = ["--to", "unix:\(path)"]
    let late = try Smudge(Self.long + address + ["--timeout", "2"]).wait()
    #expect(late.exits(3) && late.errors.contains("connect on unix:"), "\(late)")
    #expect(late.errors.contains("the guest runs on here"), "\(late)")
    let stopped = try Smudge(Self.long + address + ["--timeout", "600"])
    #expect(stopped.waits(for: "vCPU writes"))
    Thread.sleep(forTimeInterval: 1)
    kill(stopped.process.processIdentifier, SIGINT)
    let outcome = stopped.wait()
    #expect(outcome.exits(130) && outcome.isReadable, "\(outcome)")
    #expect(outcome.errors.contains("the guest runs on here"), "\(outcome)")
    withExtendedLifetime((listener, waiting)) {}
  }

  @Test func `a name that does not resolve is told from a host that does not answer`() throws {
    let outcome = try Smudge(Self.long + ["--insecure", "--to", "tcp:no-such-host.invalid:4444"])
      .wait()
    #expect(outcome.exits(3) && outcome.errors.contains("does not resolve"), "\(outcome)")
    let listening = try Smudge.run(
      "receive", "--listen", "tcp:no-such-host.invalid:4444", "--memory", "16M",
      "--insecure")
    #expect(listening.exits(3) && listening.errors.contains("does not resolve"), "\(listening)")
  }
}
