import EventTrace
import Foundation
import Simulation

/// Recorded IOMMU traffic of real guests, for the sample machine.
enum Recordings {
  /// What each container's guest driver repeats unless told otherwise. In the project's `Traces`.
  private static let names: [SampleContainer.Kind: String] = [
    .hardware: "linux-7.2-vtd-nvme-strict.ftrace",
    .pinned: "linux-7.2-vtd-nvme-lazy.ftrace",
    .deviceLog: "linux-7.2-vtd-e1000e-strict.ftrace",
  ]

  /// - Parameter path: one recording for all containers.
  /// - Returns: and sentences about what in them could not be used.
  static func load(
    _ path: String?
  ) throws -> (recordings: [SampleContainer.Kind: [FtraceEvent.Kind]], notes: [String]) {
    if let path {
      let one = try read(path)
      let all = SampleContainer.Kind.allCases.map { ($0, one.events) }
      return (Dictionary(uniqueKeysWithValues: all), one.notes)
    }
    guard let folder else {
      return ([:], ["no folder Traces near this program: the IOMMU traffic is generated"])
    }
    var recordings: [SampleContainer.Kind: [FtraceEvent.Kind]] = [:]
    for (kind, name) in names { recordings[kind] = try read(folder + "/" + name).events }
    return (recordings, [])
  }

  /// Beside the working directory or above the program.
  private static var folder: String? {
    var candidates = [FileManager.default.currentDirectoryPath]
    var url = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
    for _ in 0..<5 {
      url.deleteLastPathComponent()
      candidates.append(url.path)
    }
    return candidates.map { $0 + "/Traces" }.first {
      FileManager.default.fileExists(atPath: $0 + "/linux-7.2-vtd-nvme-strict.ftrace")
    }
  }

  private static func read(_ path: String) throws -> (events: [FtraceEvent.Kind], notes: [String]) {
    let bytes = try InputFile.read(path, as: "trace")
    var events: [FtraceEvent.Kind] = []
    var importer = FtraceImporter()
    importer.feed(bytes) { events.append($0.kind) }
    importer.finish { events.append($0.kind) }
    let summary = importer.summary
    guard !events.isEmpty else {
      throw ToolError(
        "the trace \(path) has no iommu:map or iommu:unmap event in \(summary.lineCount) lines")
    }
    var notes: [String] = []
    if summary.badLineCount > 0 {
      notes.append("\(path): \(summary.badLineCount) lines were not understood")
      notes += summary.notes.prefix(3).map { "\(path): \($0)" }
    }
    if summary.lostEventCount > 0 {
      notes.append("\(path): the recording itself lost \(summary.lostEventCount) events")
    }
    if let twice = summary.firstMappedTwice {
      notes.append("\(path): \(summary.mappedTwiceCount) IOVAs are mapped twice, first: \(twice)")
    }
    return (events, notes)
  }
}
