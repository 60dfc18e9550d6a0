import DeviceMigration
import Foundation
import MigrationTransport
import Testing

/// What a script learns from status and JSON: where the guest is, above all.
@Suite(.serialized) struct OutcomeTests {
  private static let small = ["migrate", "--sample", "--memory", "16M", "--limit", "60000"]

  /// The tool against a destination that goes away after `start`.
  private func migrate(
    _ more: [String], saysRunning: Bool, environment: [String: String] = [:]
  ) throws -> Smudge.Outcome {
    let path = Smudge.temporaryPath("socket")
    var listener: MigrationListener? = try .some(
      MigrationTransport.listen(on: MigrationAddress("unix:\(path)")))
    let sender = try Smudge(
      Self.small + ["--to", "unix:\(path)"] + more, environment: environment)
    let channel = try listener?.accept(waitMilliseconds: 60_000, timeoutMilliseconds: 30_000)
    try FakeDestination.serve(try #require(channel), saysRunning: saysRunning)
    // Whoever comes for the comparison finds nobody.
    listener = nil
    return sender.wait()
  }

  @Test func `that nobody knows who runs is no failure at which the guest runs on here`() throws {
    let outcome = try migrate([], saysRunning: false)
    #expect(outcome.exits(4) && outcome.isReadable, "\(outcome)")
    #expect(outcome.errors.contains("it may run"), "\(outcome)")
    #expect(!outcome.errors.contains("the guest runs on here"), "\(outcome)")
    let document = try #require(try migrate(["--json"], saysRunning: false).document)
    #expect(document["schema"] as? String == "smudge.failure/1")
    #expect(document["exitStatus"] as? Int == 4)
    #expect(document["guest"] as? String == "unknown")
    #expect(document["phase"] as? String == "finish")
    let devices = try #require(document["devices"] as? [[String: Any]])
    #expect(devices.count == 4 && devices.allSatisfy { $0["became"] is NSNull })
    // Nothing runs here: each stays stopped with its state.
    #expect(devices.allSatisfy { ($0["state"] as? String) == "STOP_COPY" }, "\(devices)")
  }

  @Test func `a migration that failed leaves the record of it, one that succeeded none`() throws {
    let folder = Smudge.temporaryPath("records")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let own = ["SMUDGE_RECORDS": folder]
    #expect(try Smudge(Self.small, environment: own).wait().exits(0))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
    let failed = try migrate([], saysRunning: false, environment: own)
    #expect(failed.exits(4), "\(failed)")
    let files = try FileManager.default.contentsOfDirectory(atPath: folder)
    let file = try #require(files.first)
    #expect(files.count == 1 && failed.output.contains(file), "\(failed)")
    let replayed = try Smudge.run("replay", "\(folder)/\(file)")
    #expect(replayed.exits(0) && replayed.output.contains("state digest"), "\(replayed)")
  }

  @Test func `a guest that moved and was not compared is neither a success nor still here`() throws
  {
    let outcome = try migrate(["--json"], saysRunning: true)
    #expect(outcome.exits(5) && outcome.isReadable, "\(outcome)")
    #expect(outcome.errors.contains("has moved to the destination"))
    let document = try #require(outcome.document)
    #expect(document["guest"] as? String == "destination")
    #expect(document["phase"] as? String == "comparison")
    #expect((document["devices"] as? [[String: Any]])?.count == 4)
  }

  @Test func `a failure with the guest here says so in JSON, with each device`() throws {
    let outcome = try Smudge(Self.small + ["--to", "unix:/no/such/socket", "--json"]).wait()
    #expect(outcome.exits(3), "\(outcome)")
    #expect(outcome.document?["guest"] as? String == "source")
    #expect(outcome.document?["phase"] as? String == "connect")
    #expect((outcome.document?["devices"] as? [[String: Any]])?.count == 4)

    // A destination that goes away in the middle.
    let path = Smudge.temporaryPath("socket")
    let listener = try MigrationTransport.listen(on: MigrationAddress("unix:\(path)"))
    let sender = try Smudge(Self.small + ["--to", "unix:\(path)", "--json"])
    let channel = try listener.accept(waitMilliseconds: 60_000, timeoutMilliseconds: 30_000)
    try FakeDestination.serve(channel, until: .roundEnd)
    channel.shutDown()
    let killed = sender.wait()
    #expect(killed.exits(3), "\(killed)")
    let document = try #require(killed.document)
    #expect(document["guest"] as? String == "source")
    let devices = try #require(document["devices"] as? [[String: Any]])
    #expect(devices.count == 4)
    #expect(devices.allSatisfy { $0["isLost"] as? Bool == false })
    #expect(devices.allSatisfy { $0["state"] as? String == "RUNNING" }, "\(devices)")
    #expect(devices.allSatisfy { ($0["became"] as? String)?.contains("RUNNING") == true })
  }

  @Test func `a guest whose vCPUs cannot be resumed is here, stands still, and the status says so`()
    throws
  {
    for json in [true, false] {
      let path = Smudge.temporaryPath("socket")
      let listener = try MigrationTransport.listen(on: MigrationAddress("unix:\(path)"))
      let sender = try Smudge(
        Self.small + ["--to", "unix:\(path)", "--vcpus-stay-stopped"] + (json ? ["--json"] : []))
      let channel = try listener.accept(waitMilliseconds: 60_000, timeoutMilliseconds: 30_000)
      // It goes away when the guest has stopped, before it was told to start.
      try FakeDestination.serve(channel, until: .stopped)
      channel.shutDown()
      let outcome = sender.wait()
      #expect(outcome.exits(6) && outcome.isReadable, "\(outcome)")
      #expect(outcome.errors.contains("resume its vCPUs"), "\(outcome)")
      #expect(!outcome.errors.contains("the guest runs on here"), "\(outcome)")
      guard json else { continue }
      let document = try #require(outcome.document)
      #expect(document["exitStatus"] as? Int == 6)
      #expect(document["guest"] as? String == "source-stopped")
      let devices = try #require(document["devices"] as? [[String: Any]])
      #expect(devices.count == 4 && devices.allSatisfy { $0["isLost"] as? Bool == false })
    }
  }

  @Test func `a refusal, a file that is missing and a machine too large are JSON too`() throws {
    let path = Smudge.temporaryPath("socket")
    let receiver = try Smudge([
      "receive", "--listen", "unix:\(path)", "--memory", "32M", "--timeout", "20",
    ])
    #expect(receiver.waits(for: "waiting on "))
    let refused = try Smudge(Self.small + ["--to", "unix:\(path)", "--json"]).wait()
    #expect(refused.exits(3), "\(refused)")
    #expect((refused.document?["cause"] as? String)?.contains("refused") == true)
    #expect(refused.document?["guest"] as? String == "source")
    for arguments in [
      Self.small + ["--trace", "/no/such/file", "--json"],
      ["migrate", "--sample", "--memory", "1T", "--json"], ["replay", "/no/such/file", "--json"],
    ] {
      let outcome = try Smudge(arguments).wait()
      #expect(outcome.exits(3), "\(outcome)")
      #expect(outcome.document?["guest"] as? String == "none", "\(outcome)")
      #expect(outcome.document?["message"] as? String != nil && !outcome.errors.isEmpty)
    }
  }

  @Test func `a verdict that could not be written is not status 0`() throws {
    for more in [[], ["--json"]] {
      let full = try Smudge(Self.small + more, output: "/dev/full").wait()
      #expect(full.exits(5) && full.isReadable, "\(full)")
      #expect(full.errors.contains("No space left on device"), "\(full)")
      // What differs counts for more than that nobody could be told.
      let broken = try Smudge(Self.small + more + ["--break", "unmap"], output: "/dev/full").wait()
      #expect(broken.exits(1), "\(broken)")
    }
    let help = try Smudge(["--help"], output: "/dev/full").wait()
    #expect(help.exits(5), "\(help)")
  }

  @Test func `a standard output that is closed is not taken for the next file opened`() throws {
    let path = Smudge.temporaryPath("trace")
    defer { try? FileManager.default.removeItem(atPath: path) }
    let outcome = try Smudge.shell(
      "smudge migrate --sample --memory 16M --limit 60000 --record \(path) >&-")
    #expect(outcome.exits(5) && outcome.isReadable, "\(outcome)")
    #expect(try Smudge.run("replay", path).exits(0))
  }

  @Test func `keys that a schema names are there when nothing is known, as null`() throws {
    let outcome = try Smudge(Self.small + ["--json"]).wait()
    #expect(outcome.exits(0), "\(outcome)")
    let document = try #require(outcome.document)
    for key in ["leftOut", "recorded"] { #expect(document[key] is NSNull, "\(key)") }
    let rounds = try #require(document["rounds"] as? [[String: Any]])
    #expect(rounds.last?["predictedDowntimeNanoseconds"] is NSNull)
    #expect(rounds.last?["predictedDowntimeHighNanoseconds"] is NSNull)
    // A range, and one figure inside.
    let ends = ["Low", "", "High"].compactMap {
      rounds.first?["predictedDowntime\($0)Nanoseconds"] as? Int
    }
    #expect(ends.count == 3 && ends == ends.sorted() && ends[0] < ends[2], "\(ends)")
    #expect(document["guest"] as? String == "destination")
  }
}
