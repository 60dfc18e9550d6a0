import Foundation
import Testing

@Suite struct UsageTests {
  @Test(arguments: [
    [], ["no-such-command"], ["migrate"], ["migrate", "--sample", "--no-such-option"],
    ["migrate", "--sample", "--memory", "0"], ["migrate", "--sample", "--memory", "abc"],
    ["migrate", "--sample", "--memory", "17M+1"], ["migrate", "--sample", "--memory", "1000001"],
    ["migrate", "--sample", "--memory", "-1"], ["migrate", "--sample", "--memory", "2000T"],
    ["migrate", "--sample", "--devices", "0"], ["migrate", "--sample", "--devices", "99"],
    ["migrate", "--sample", "--vcpus", "0"], ["migrate", "--sample", "--seed", "x"],
    ["migrate", "--sample", "--limit", "0"], ["migrate", "--sample", "--limit", "-5"],
    ["migrate", "--sample", "--timeout", "0"], ["migrate", "--sample", "--break", "nothing"],
    ["migrate", "--sample", "--to", "nowhere"], ["migrate", "--sample", "--to", "tcp:host"],
    ["migrate", "--sample", "--device", "/dev/vfio/1"], ["migrate", "--device", "/dev/vfio/1"],
    ["migrate", "--device", "/dev/vfio/1", "--to", "unix:/tmp/s", "--json"],
    ["receive", "--listen", "tcp:0.0.0.0:0"], ["receive", "--listen", "tcp:[::]:0"],
    ["migrate", "--sample", "--to", "tcp:192.0.2.1:4444"], ["migrate", "--sample", "--to", "fd:0"],
    ["migrate", "--sample", "--to", "tcp:localhost.example:4444"],
    ["migrate", "--sample", "--to", "tcp:127.0.0.1:1", "--tls-cert", "a"],
    [
      "migrate", "--sample", "--to", "file:/tmp/a", "--tls-cert", "a", "--tls-key", "b", "--tls-ca",
      "c",
    ],
    ["receive"], ["receive", "--listen", "unix:/tmp/a", "--from", "b"],
    ["receive", "--listen", "udp:1"], ["replay"], ["replay", "a", "b"],
  ])
  func `what can not be meant is told, with status 2 and nothing on standard output`(
    arguments: [String]
  ) throws {
    let outcome = try Smudge(arguments).wait()
    #expect(outcome.exits(2), "\(outcome)")
    #expect(outcome.isReadable && outcome.output.isEmpty)
    #expect(outcome.errors.count > 20)
  }

  @Test func `help has examples, goes to standard output and fits`() throws {
    for arguments in [
      ["--help"], ["migrate", "--help"], ["receive", "--help"], ["replay", "-h"],
    ] {
      let outcome = try Smudge(arguments).wait()
      #expect(outcome.exits(0) && outcome.errors.isEmpty)
      let lines = outcome.output.split(separator: "\n")
      #expect(lines.allSatisfy { $0.count <= 100 }, "\(arguments)")
    }
    #expect(try Smudge.run("--help").output.contains("smudge migrate --sample"))
  }

  @Test func `a trace that can not be read or has no event is named, with status 3`() throws {
    let empty = Smudge.temporaryPath("empty")
    let garbage = Smudge.temporaryPath("garbage")
    _ = FileManager.default.createFile(atPath: empty, contents: Data())
    _ = FileManager.default.createFile(
      atPath: garbage,
      contents: Data((0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 3) }))
    defer { for path in [empty, garbage] { try? FileManager.default.removeItem(atPath: path) } }
    for path in ["/no/such/file", empty, garbage, "/tmp"] {
      let outcome = try Smudge.run(
        "migrate", "--sample", "--memory", "16M", "--limit", "60000", "--trace", path)
      #expect(outcome.exits(3), "\(path): \(outcome)")
      #expect(outcome.errors.contains(path) && outcome.isReadable)
    }
  }

  @Test(arguments: [
    ("/dev/null", "no device of VFIO"), ("/dev/vfio/devices/vfio99", "does not exist"),
    ("/dev/vfio/vfio", "no group"), ("/dev/vfio/-1", "no group"),
    ("/dev/vfio/999999", "does not exist"),
  ])
  func `a path that is no group of VFIO is named, with the reason and status 3`(
    path: String, reason: String
  ) throws {
    for arguments in [
      ["migrate", "--device", path, "--to", "unix:/tmp/nobody"],
      ["receive", "--device", path, "--listen", "unix:/tmp/nobody"],
    ] {
      let outcome = try Smudge(arguments + ["--memory", "16M"]).wait()
      #expect(outcome.exits(3), "\(outcome)")
      #expect(outcome.errors.contains(path) && outcome.errors.contains(reason), "\(outcome)")
      #expect(outcome.isReadable && outcome.output.isEmpty)
    }
  }

  @Test func `a machine larger than memory is refused by name`() throws {
    let outcome = try Smudge.run("migrate", "--sample", "--memory", "1T")
    #expect(outcome.exits(3) && outcome.errors.contains("are available"), "\(outcome)")
  }

  @Test func `a replay of what is no trace says so`() throws {
    let missing = try Smudge.run("replay", "/no/such/file")
    #expect(missing.exits(3) && missing.errors.contains("/no/such/file"))
    let garbage = Smudge.temporaryPath("garbage")
    _ = FileManager.default.createFile(atPath: garbage, contents: Data("not a trace".utf8))
    defer { try? FileManager.default.removeItem(atPath: garbage) }
    let outcome = try Smudge.run("replay", garbage)
    #expect(outcome.exits(1) && outcome.output.contains("it is not a trace"), "\(outcome)")
  }
}
