import Foundation
import Testing

/// One at a time: each starts two processes with some threads.
@Suite(.serialized) struct MigrationTests {
  static let small = ["--memory", "16M", "--timeout", "20"]

  private func migrate(_ more: String...) throws -> Smudge {
    // Whether a shared machine reaches the usual limit is not what is asked here.
    let limit = more.contains("--limit") ? [] : ["--limit", "60000"]
    return try Smudge(["migrate", "--sample"] + Self.small + limit + more)
  }

  private func receive(_ address: String, _ more: String...) throws -> Smudge {
    try Smudge(["receive", "--listen", address] + Self.small + more)
  }

  /// The address a receiver says it waits on, with its port.
  private func addressSaid(by receiver: Smudge) -> String? {
    guard receiver.waits(for: "waiting on "), receiver.waits(for: "\n") else { return nil }
    return receiver.output.split(separator: "\n").first?.split(separator: " ").last.map(String.init)
  }

  @Test func `a sample arrives, and JSON is one document`() throws {
    let outcome = try migrate("--json").wait()
    #expect(outcome.exits(0) && outcome.isReadable, "\(outcome)")
    let value = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
    let document = try #require(value as? [String: Any])
    let verdict = try #require(document["verdict"] as? [String: Any])
    #expect(verdict["isEqual"] as? Bool == true)
    #expect(verdict["pagesCompared"] as? Int == 4096)
    #expect((verdict["pagesOnlyDevicesWrote"] as? Int ?? 0) > 0)
    #expect((document["mappingCalls"] as? Int ?? 0) > (document["backendCalls"] as? Int ?? .max))
  }

  @Test func `text fits 80 columns and names the verdict`() throws {
    let outcome = try migrate("--seed", "3").wait()
    #expect(outcome.exits(0) && outcome.output.contains("equal: nothing is missing"))
    let wide = outcome.output.split(separator: "\n").filter { $0.count > 80 }
    #expect(wide.isEmpty, "\(wide)")
    // What does not fit goes on below, and nothing is left out.
    for column in ["SENT", "MAP CALLS", "DOWN ms", "UNMAPS", "CONSERV"] {
      #expect(outcome.output.contains(column), "\(column)")
    }
  }

  @Test(arguments: ["unmap", "query", "pinned", "rearm", "final-sync", "put-back"])
  func `a step that is left out is noticed, with pages named`(step: String) throws {
    let outcome = try migrate("--break", step).wait()
    if outcome.exits(3) {
      // The memories are not compared: the page had not come even once.
      #expect(step == "put-back" && outcome.errors.contains("never came"), "\(outcome)")
      #expect(outcome.errors.contains("GPA 0x"), "\(outcome)")
    } else {
      #expect(outcome.exits(1), "\(outcome)")
      #expect(outcome.output.contains("GPA 0x") && outcome.output.contains("DIFFERENT"))
    }
  }

  @Test(arguments: ["tcp:127.0.0.1:0", "unix"])
  func `two processes migrate over a socket`(kind: String) throws {
    let path = Smudge.temporaryPath("socket")
    let receiver = try receive(kind == "unix" ? "unix:\(path)" : kind)
    let address = try #require(addressSaid(by: receiver))
    let sent = try migrate("--to", address).wait()
    #expect(sent.exits(0), "\(sent)")
    let received = receiver.wait()
    #expect(received.exits(0), "\(received)")
    #expect(received.output.contains("the guest ran on here"))
  }

  @Test(arguments: [["--memory", "32M"], ["--devices", "3"]])
  func `a destination made of other parts is refused by name on both sides`(
    other: [String]
  ) throws {
    let receiver = try Smudge(
      ["receive", "--listen", "tcp:127.0.0.1:0", "--memory", "16M", "--timeout", "20"])
    let address = try #require(addressSaid(by: receiver))
    let sent = try Smudge(["migrate", "--sample", "--to", address, "--memory", "16M"] + other)
      .wait()
    #expect(sent.exits(3), "\(sent)")
    #expect(sent.errors.contains("refused") && sent.errors.contains("the guest runs on here"))
    // Nothing was touched there: it waits for the one that is meant.
    #expect(receiver.process.isRunning && receiver.errors.contains("waiting for another peer"))
  }

  @Test func `nobody at the address is an error with the address`() throws {
    for address in ["unix:/no/such/socket", "tcp:127.0.0.1:1"] {
      let outcome = try migrate("--to", address).wait()
      #expect(outcome.exits(3) && outcome.errors.contains(address), "\(outcome)")
    }
  }

  @Test func `a receiver that is killed leaves a source that runs on; a second one is told so`()
    throws
  {
    let receiver = try receive("tcp:127.0.0.1:0")
    let address = try #require(addressSaid(by: receiver))
    // A limit it never reaches, so that there is time.
    let sender = try migrate("--to", address, "--limit", "1")
    #expect(sender.waits(for: "round 1"))
    kill(receiver.process.processIdentifier, SIGKILL)
    let outcome = sender.wait()
    #expect(outcome.exits(3) && outcome.isReadable, "\(outcome)")
    #expect(outcome.errors.contains("the guest runs on here"))
    let next = try receive(address)
    let again = try #require(addressSaid(by: next))
    #expect(try migrate("--to", again).wait().exits(0))
    #expect(next.wait().exits(0))
  }

  @Test func `an interrupted migration gives up in good order with status 130`() throws {
    let sender = try migrate("--limit", "1")
    #expect(sender.waits(for: "round 1"))
    kill(sender.process.processIdentifier, SIGINT)
    let outcome = sender.wait()
    #expect(outcome.exits(130) && outcome.isReadable, "\(outcome)")
    #expect(outcome.errors.contains("the guest runs on here"), "\(outcome)")
  }

  @Test func `a record replays to the digest the migration ended with`() throws {
    let path = Smudge.temporaryPath("trace")
    defer { try? FileManager.default.removeItem(atPath: path) }
    let migrated = try migrate("--record", path).wait()
    #expect(migrated.exits(0), "\(migrated)")
    func digest(_ text: String) -> Substring? {
      text.split(separator: "\n").first { $0.hasPrefix("state digest") }?.split(separator: " ").last
    }
    let replayed = try Smudge.run("replay", path)
    #expect(replayed.exits(0), "\(replayed)")
    #expect(digest(replayed.output) == digest(migrated.output))
    #expect(digest(replayed.output)?.count == 18)

    // Cut in the middle: what is there is read, and the damage is named.
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    try bytes.prefix(bytes.count / 2).write(to: URL(fileURLWithPath: path))
    let cut = try Smudge.run("replay", path, "--json")
    #expect(cut.exits(1), "\(cut)")
    let value = try JSONSerialization.jsonObject(with: Data(cut.output.utf8))
    let document = try #require(value as? [String: Any])
    #expect((document["damage"] as? String)?.contains("damaged at byte") == true)
  }
}
