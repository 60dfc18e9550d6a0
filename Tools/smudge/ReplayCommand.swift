import ArgumentParser
import DirtyTracker
import EventTrace
import Foundation
import GuestDirtyLog
import TraceReplay

struct ReplayCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Replays a recorded migration to the state its tracker had.",
    discussion: """
      What the tracker was told and answered, as `smudge migrate --record FILE` wrote it, is given
      to a fresh tracker. Equal digests are equal states, bit for bit.

      Exit status: 0 replayed; 1 the trace is damaged, incomplete or went another way; 3 the file
      can not be read.
      """)

  @Argument(help: "A trace written by `smudge migrate --record`.")
  var file: String

  @Flag(help: "One JSON document instead of text.")
  var json = false

  func run() throws {
    do {
      try replay(try InputFile.read(file, as: "trace"))
    } catch let error as ToolError {
      if json { try JSONReport.print(encoding: FailureDocument(error)) }
      throw error
    }
  }

  private func replay(_ bytes: [UInt8]) throws {
    let trace = TraceReader(bytes)
    var replay: TrackerReplay?
    var refusal: String?
    do throws(TraceRefusal) {
      replay = try TrackerReplay.replay(trace)
    } catch {
      refusal = "\(error)"
    }
    let answer = ReplayReport(file: file, trace: trace, refusal: refusal, replay: replay)
    try answer.print(asJSON: json)
    if !answer.isSound { throw ExitCode(ToolStatus.different.rawValue) }
  }
}

/// What a replay found. Schema `smudge.replay/1`: members are only ever added.
struct ReplayReport: Encodable {
  struct Container: Encodable {
    let name: String
    let scopes: [String]
    let mappings: Int
    let retiredMappings: Int
    let pagesByQuery: UInt64
    let pagesByUnmap: UInt64
    let pagesConservative: UInt64
  }

  var schema = "smudge.replay/1"
  let file: String
  let events: Int
  @OrNull var damage: String?
  @OrNull var refusal: String?
  let divergences: [String]
  @OrNull var stateDigest: String?
  let containers: [Container]

  var isSound: Bool { damage == nil && refusal == nil && divergences.isEmpty }

  init(file: String, trace: TraceReader, refusal: String?, replay: TrackerReplay?) {
    self.file = file
    events = trace.events.count
    damage = trace.damage?.description
    self.refusal = refusal
    divergences = replay?.divergences ?? []
    stateDigest = replay.map { hexadecimal($0.tracker.stateDigest()) }
    let sources = replay?.tracker.log.pagesBySource ?? [:]
    containers = (replay?.tracker.containers ?? []).map { container in
      Container(
        name: container.name, scopes: container.scopes, mappings: container.mappingCount,
        retiredMappings: container.retiredMappingCount,
        pagesByQuery: sources[.deviceQuery(container.id)] ?? 0,
        pagesByUnmap: sources[.unmap(container.id)] ?? 0,
        pagesConservative: sources[.conservative(container.id)] ?? 0)
    }
  }

  func print(asJSON: Bool) throws {
    guard !asJSON else { return try JSONReport.print(encoding: self) }
    let width = Terminal.width
    func say(_ label: String, _ text: String) {
      for line in Terminal.lines(label, text, width: width) { Output.line(line) }
    }
    say("trace", file)
    say("events", "\(events)")
    if let damage { say("damage", damage) }
    if let refusal { say("refused", refusal) }
    for divergence in divergences.prefix(8) { say("otherwise", divergence) }
    if divergences.count > 8 { say("", "and \(divergences.count - 8) more") }
    if !containers.isEmpty {
      var rows = [["CONTAINER", "SCOPES", "MAPPINGS", "RETIRED", "DEVICE", "UNMAP", "CONSERV"]]
      for container in containers {
        rows.append([
          container.name, TextReport.scopes(container.scopes), "\(container.mappings)",
          "\(container.retiredMappings)", "\(container.pagesByQuery)",
          "\(container.pagesByUnmap)", "\(container.pagesConservative)",
        ])
      }
      TextReport.table(rows, leftColumns: 2)
      Output.line("dirty pages are those that were clean before, by who said so\n")
    }
    if let stateDigest { say("state digest", stateDigest) }
  }
}

func hexadecimal(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return "0x" + String(repeating: "0", count: 16 - digits.count) + digits
}
