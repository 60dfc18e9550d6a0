import DeviceMigration
import Foundation
import MigrationTransport
import Testing

/// Peers that are no smudge, or one that stops half way.
@Suite(.serialized) struct StrangerTests {
  private func bytes(_ bytes: [UInt8], to channel: FileDescriptorChannel) {
    try? StrangerBytes.send(bytes, to: channel)
  }

  @Test(arguments: ["nothing", "closes", "garbage", "hello cut short"])
  func `a receiver that hears no stream says so and ends`(kind: String) throws {
    let path = Smudge.temporaryPath("socket")
    let receiver = try Smudge([
      "receive", "--listen", "unix:\(path)", "--memory", "16M", "--timeout", "2",
    ])
    #expect(receiver.waits(for: "waiting on "))
    let channel = try MigrationTransport.connect(to: MigrationAddress("unix:\(path)"))
    switch kind {
    case "closes": channel.shutDown()
    case "garbage": bytes((0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }, to: channel)
    case "hello cut short":
      bytes(Array("SMUDGE".utf8), to: channel)
      channel.shutDown()
    default: break
    }
    let outcome = receiver.wait()
    #expect(outcome.exits(3) && outcome.isReadable, "\(kind): \(outcome)")
    #expect(outcome.errors.count > 20)
  }

  @Test(arguments: ["nothing", "closes", "garbage"])
  func `a source whose destination speaks no stream runs on`(kind: String) throws {
    let path = Smudge.temporaryPath("socket")
    let listener = try MigrationTransport.listen(on: MigrationAddress("unix:\(path)"))
    let sender = try Smudge([
      "migrate", "--sample", "--memory", "16M", "--timeout", "2", "--to", "unix:\(path)",
    ])
    let channel = try listener.accept(waitMilliseconds: 60_000, timeoutMilliseconds: 10_000)
    switch kind {
    case "closes": channel.shutDown()
    case "garbage": bytes((0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }, to: channel)
    default: break
    }
    let outcome = sender.wait()
    #expect(outcome.exits(3) && outcome.isReadable, "\(kind): \(outcome)")
    #expect(outcome.errors.contains("the guest runs on here"), "\(kind): \(outcome)")
    channel.shutDown()
  }

  @Test func `a reader of standard output that goes away does no harm`() throws {
    for option in ["--seed", "--json"] {
      let shell = Process()
      shell.environment = Smudge.environment
      shell.executableURL = URL(fileURLWithPath: "/bin/bash")
      let more = option == "--json" ? "--json" : "--seed 4"
      shell.arguments = [
        "-c",
        "'\(Smudge.path)' migrate --sample --memory 16M \(more) | head -c 5 >/dev/null; "
          + "exit ${PIPESTATUS[0]}",
      ]
      try shell.run()
      shell.waitUntilExit()
      #expect(shell.terminationReason == .exit && shell.terminationStatus == 0, "\(option)")
    }
  }
}
