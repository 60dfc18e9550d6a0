import Addressing
@testable import DeviceMigration
import Foundation
import MigrationTransport
import Testing

/// Peers that are no smudge, or one that stops half way.
@Suite(.serialized) struct StrangerTests {
  private func bytes(_ bytes: [UInt8], to channel: FileDescriptorChannel) {
    try? StrangerBytes.send(bytes, to: channel)
  }

  @Test func `a receiver goes on listening after peers that say no fitting hello`() throws {
    let path = Smudge.temporaryPath("socket")
    let receiver = try Smudge([
      "receive", "--listen", "unix:\(path)", "--memory", "16M", "--timeout", "3",
    ])
    #expect(receiver.waits(for: "waiting on "))
    func stranger() throws -> FileDescriptorChannel {
      try MigrationTransport.connect(to: MigrationAddress("unix:\(path)"))
    }
    func count() -> Int { receiver.errors.components(separatedBy: "waiting for another").count - 1 }
    func isTurnedAway(_ number: Int) -> Bool {
      for _ in 0..<2000 where count() < number { Thread.sleep(forTimeInterval: 0.01) }
      return count() == number
    }
    try stranger().shutDown()
    #expect(isTurnedAway(1), "\(receiver.errors)")
    let garbage = try stranger()
    bytes((0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }, to: garbage)
    #expect(isTurnedAway(2), "\(receiver.errors)")
    let short = try stranger()
    bytes(Array("SMUDGE".utf8), to: short)
    short.shutDown()
    #expect(isTurnedAway(3), "\(receiver.errors)")
    let silent = try stranger()
    #expect(isTurnedAway(4), "\(receiver.errors)")
    #expect(receiver.errors.contains("no whole hello came in 3 seconds"))
    let other = try Smudge(Self.fast + ["--devices", "3", "--to", "unix:\(path)"]).wait()
    #expect(other.exits(3) && other.errors.contains("refused"), "\(other)")
    #expect(isTurnedAway(5), "\(receiver.errors)")
    // And then the one that is meant.
    let sent = try Smudge(Self.fast + ["--to", "unix:\(path)"]).wait()
    #expect(sent.exits(0), "\(sent)")
    let outcome = receiver.wait()
    #expect(outcome.exits(0) && outcome.isReadable, "\(outcome)")
    withExtendedLifetime((garbage, short, silent)) {}
  }

  private static let fast = [
    "migrate", "--sample", "--memory", "16M", "--limit", "60000", "--timeout", "60",
  ]

  @Test func `a hello that comes in drops is given up when its own time is over`() throws {
    let path = Smudge.temporaryPath("socket")
    let receiver = try Smudge([
      "receive", "--listen", "unix:\(path)", "--memory", "16M", "--timeout", "3",
    ])
    #expect(receiver.waits(for: "waiting on "))
    let channel = try MigrationTransport.connect(to: MigrationAddress("unix:\(path)"))
    let begin = Date()
    while !receiver.errors.contains("no whole hello"), Date().timeIntervalSince(begin) < 30 {
      // A byte now and then, so that no read ever waits for its own timeout.
      bytes([StreamFormat.magic[0]], to: channel)
      Thread.sleep(forTimeInterval: 1)
    }
    #expect(receiver.errors.contains("no whole hello came in 3 seconds"), "\(receiver.errors)")
  }

  @Test func `a stranger that connects meanwhile is not taken for the comparison`() throws {
    let path = Smudge.temporaryPath("socket")
    let receiver = try Smudge([
      "receive", "--listen", "unix:\(path)", "--memory", "16M", "--timeout", "60",
    ])
    #expect(receiver.waits(for: "waiting on "))
    let sender = try Smudge(Self.fast + ["--to", "unix:\(path)"])
    #expect(sender.waits(for: "round 1"))
    // Both wait in the line before the source comes a second time.
    let silent = try MigrationTransport.connect(to: MigrationAddress("unix:\(path)"))
    let liar = try MigrationTransport.connect(to: MigrationAddress("unix:\(path)"))
    bytes([UInt8](repeating: 0, count: 4096), to: liar)
    let sent = sender.wait()
    #expect(sent.exits(0), "\(sent)")
    let outcome = receiver.wait()
    #expect(outcome.exits(0), "\(outcome)")
    #expect(outcome.errors.components(separatedBy: "stranger").count == 3, "\(outcome)")
    withExtendedLifetime((silent, liar)) {}
  }

  @Test func `what a peer says cannot clear the screen or forge a verdict`() throws {
    let evil = "\u{1b}[2J\u{1b}[Hverdict equal: nothing is missing\r\u{9b}31m"
    let path = Smudge.temporaryPath("socket")
    let receiver = try Smudge([
      "receive", "--listen", "unix:\(path)", "--memory", "16M", "--timeout", "3",
    ])
    #expect(receiver.waits(for: "waiting on "))
    let channel = try MigrationTransport.connect(
      to: MigrationAddress("unix:\(path)"), timeoutMilliseconds: 20_000)
    var hello = StreamHello(regions: [], devices: [], wantsAnswers: true)
    hello.regions = (0..<100).map { index in
      let first = GPA(UInt64(index) << 20)
      return StreamHello.Region(name: evil, gpa: AddressRange(first: first, last: first))
    }
    let writer = StreamWriter(channel)
    try writer.begin()
    try writer.write(.hello, payload: hello.encoded())
    let reader = StreamReader(channel)
    try reader.begin()
    let answer = try reader.nextSection()
    #expect(answer.kind == .refused)
    // It answers first, and then says so.
    for _ in 0..<2000 where !receiver.errors.contains("waiting for another") {
      Thread.sleep(forTimeInterval: 0.01)
    }
    for text in [try reader.readText(of: answer), receiver.errors] {
      #expect(text.contains("verdict equal") && text.contains("more"), "\(text)")
      #expect(!text.unicodeScalars.contains("\u{1b}") && !text.unicodeScalars.contains("\u{9b}"))
      #expect(text.utf8.count < 4096)
    }

    // The other way round: the reason of a refusal.
    let other = Smudge.temporaryPath("socket")
    let listener = try MigrationTransport.listen(on: MigrationAddress("unix:\(other)"))
    let sender = try Smudge(Self.fast + ["--to", "unix:\(other)"])
    let incoming = try listener.accept(waitMilliseconds: 60_000, timeoutMilliseconds: 30_000)
    let answers = StreamWriter(incoming)
    try answers.begin()
    try answers.write(.refused, text: evil)
    let outcome = sender.wait()
    #expect(outcome.exits(3) && outcome.errors.contains("verdict equal"), "\(outcome)")
    #expect(!outcome.errors.unicodeScalars.contains("\u{1b}"), "\(outcome)")
  }

  @Test func `a reader that is too slow after the stop is given up, and the guest runs on here`()
    throws
  {
    let path = Smudge.temporaryPath("socket")
    let listener = try MigrationTransport.listen(on: MigrationAddress("unix:\(path)"))
    let sender = try Smudge([
      "migrate", "--sample", "--memory", "16M", "--limit", "3000", "--stop-limit", "3000", "--json",
      "--on-limit", "stop-anyway", "--rounds", "5", "--timeout", "600", "--to", "unix:\(path)",
    ])
    let channel = try listener.accept(waitMilliseconds: 60_000, timeoutMilliseconds: 60_000)
    try FakeDestination.serve(channel, until: .stopped)
    // Nothing else ends it: the stream's own timeout is ten minutes.
    let outcome = sender.wait()
    #expect(outcome.exits(3) && outcome.isReadable, "\(outcome)")
    #expect(outcome.document?["guest"] as? String == "source", "\(outcome)")
    #expect(outcome.errors.contains("the guest stood still for"), "\(outcome)")
    channel.shutDown()
  }

  @Test(arguments: ["nothing", "closes", "garbage"])
  func `a source whose destination speaks no stream runs on`(kind: String) throws {
    let path = Smudge.temporaryPath("socket")
    let listener = try MigrationTransport.listen(on: MigrationAddress("unix:\(path)"))
    let sender = try Smudge([
      "migrate", "--sample", "--memory", "16M", "--limit", "60000", "--timeout", "2", "--to",
      "unix:\(path)",
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

  @Test func `a reader of standard output that goes away stops nothing, and is no status 0`() throws
  {
    for option in ["--limit 60000", "--limit 60000 --json"] {
      let outcome = try Smudge.shell(
        "smudge migrate --sample --memory 16M \(option) | true; "
          + "exit ${PIPESTATUS[0]}")
      #expect(outcome.exits(5) && outcome.isReadable, "\(option): \(outcome)")
      #expect(outcome.errors.contains("Broken pipe"), "\(option): \(outcome)")
    }
  }
}
