import DeviceMigration
import Foundation
import Testing

/// What the tool writes, and what it must leave alone.
@Suite(.serialized) struct FileTests {
  private static let fast = ["migrate", "--sample", "--memory", "16M", "--limit", "60000"]

  private func folder() throws -> String {
    let path = Smudge.temporaryPath("folder")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }

  private func kind(_ path: String) -> FileAttributeType? {
    (try? FileManager.default.attributesOfItem(atPath: path))?[.type] as? FileAttributeType
  }

  @Test func `a record never replaces a FIFO, a device or a folder`() throws {
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let fifo = folder + "/fifo"
    #expect(try Smudge.shell("mkfifo \(fifo)").exits(0))
    let link = folder + "/link-to-device"
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "/dev/full")
    let paths = [
      (fifo, "FIFO"), ("/dev/null", "device"), ("/dev/full", "device"),
      (link, "device"), (folder, "directory"),
    ]
    for (path, name) in paths {
      let before = kind(path)
      let outcome = try Smudge(Self.fast + ["--record", path]).wait()
      #expect(outcome.exits(3) && outcome.isReadable, "\(outcome)")
      #expect(outcome.errors.contains(path) && outcome.errors.contains(name), "\(outcome)")
      #expect(kind(path) == before && before != .typeRegular, "\(path)")
    }
  }

  @Test func `a record goes through a symbolic link, which stays one`() throws {
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let (target, link) = (folder + "/target", folder + "/link")
    #expect(FileManager.default.createFile(atPath: target, contents: Data(count: 1 << 24)))
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: target)
    #expect(try Smudge(Self.fast + ["--record", link]).wait().exits(0))
    #expect(kind(link) == .typeSymbolicLink)
    let replayed = try Smudge.run("replay", target)
    #expect(replayed.exits(0), "\(replayed)")
  }

  @Test func `a stream to a file is written once, and a receiver takes it from there`() throws {
    let path = Smudge.temporaryPath("stream")
    defer { try? FileManager.default.removeItem(atPath: path) }
    // A limit it never reaches.
    let sent = try Smudge([
      "migrate", "--sample", "--memory", "16M", "--limit", "1", "--timeout", "1", "--json",
      "--on-limit", "stop-anyway", "--rounds", "30", "--to", "file:\(path)",
    ]).wait()
    #expect(sent.exits(0), "\(sent)")
    #expect(sent.document?["guest"] as? String == "stream")
    #expect(sent.document?["verdict"] is NSNull)
    let kinds = try sections(of: path)
    #expect(kinds.first == .hello && kinds.last == .complete)
    #expect(kinds.filter { $0 == .hello }.count == 1 && kinds.contains(.stopped))
    for _ in 0..<2 {
      let received = try Smudge.run("receive", "--from", path, "--memory", "16M")
      #expect(received.exits(0), "\(received)")
      #expect(received.output.contains("arrived: ") && received.output.contains("ran on here"))
    }
    let other = try Smudge.run("receive", "--from", path, "--memory", "32M")
    #expect(other.exits(3) && other.errors.contains("refused"), "\(other)")
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    try bytes.prefix(bytes.count / 2).write(to: URL(fileURLWithPath: path))
    let cut = try Smudge.run("receive", "--from", path, "--memory", "16M")
    #expect(cut.exits(3) && cut.errors.contains("ends too early"), "\(cut)")
    let missing = try Smudge.run("receive", "--from", "/no/such/file", "--memory", "16M")
    #expect(missing.exits(3) && missing.errors.contains("/no/such/file"), "\(missing)")
  }

  private func sections(of path: String) throws -> [StreamSectionKind] {
    let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
    var kinds: [StreamSectionKind] = []
    var offset = StreamFormat.startByteCount
    while offset < bytes.count {
      let header = Array(bytes[offset..<(offset + StreamFormat.headerByteCount)])
      let section = try StreamSection.decode(
        header, expecting: UInt64(kinds.count), offset: UInt64(offset))
      kinds.append(section.kind)
      offset += StreamFormat.headerByteCount + section.payloadByteCount
    }
    return kinds
  }

  @Test(arguments: [4, 5, 8, 9, 10, 11, 12, 20, 64, 128])
  func `few file descriptors are a sentence and no signal`(count: Int) throws {
    // Below some number not even the loader has what it needs, and says that.
    let outcome = try Smudge.shell(
      "ulimit -n \(count); exec '\(Smudge.path)' migrate --sample --memory 16M")
    #expect(!outcome.isSignal && outcome.status != 0 && outcome.status < 128, "\(outcome)")
    #expect(outcome.isReadable && !outcome.errors.contains("Signal"), "\(outcome)")
    if count >= 8 { #expect(outcome.errors.contains("ulimit -n"), "\(outcome)") }
  }

  @Test func `a TMPDIR that is no folder is named in a sentence`() throws {
    for path in ["/no/such", "/dev/null"] {
      let outcome = try Smudge(
        ["migrate", "--sample", "--memory", "16M", "--limit", "60000"],
        environment: ["TMPDIR": path]
      ).wait()
      #expect(outcome.exits(3) && outcome.isReadable, "\(outcome)")
      #expect(outcome.errors.contains("TMPDIR") && !outcome.errors.contains("NSCocoa"))
    }
    let long = "/tmp/" + String(repeating: "x", count: 90)
    try FileManager.default.createDirectory(atPath: long, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: long) }
    let outcome = try Smudge(
      ["migrate", "--sample", "--memory", "16M", "--limit", "60000"],
      environment: ["TMPDIR": long]
    ).wait()
    #expect(outcome.exits(3) && outcome.errors.contains("TMPDIR"), "\(outcome)")
  }
}
