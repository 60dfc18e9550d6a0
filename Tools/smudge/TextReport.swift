import DeviceMigration
import DirtyTracker
import Foundation
import GuestDirtyLog
import Simulation

/// What a person reads at the end.
enum TextReport {
  static func print(_ result: SampleRun.Result) {
    rounds(result.report)
    downtime(result.report)
    devices(result)
    containers(result)
    if !result.notes.isEmpty { Output.line() }
    for note in result.notes {
      for line in Terminal.lines("note", note, width: Terminal.width) { Output.line(line) }
    }
    verdict(result)
  }

  /// Columns that do not fit the width go on below, beside the first column once more.
  static func table(_ rows: [[String]], leftColumns: Int = 1) {
    guard let count = rows.first?.count else { return }
    let widths = (0..<count).map { column in rows.map { $0[column].count }.max() ?? 0 }
    var next = 1
    repeat {
      var columns = [0]
      var used = widths[0]
      while next < count, columns.count == 1 || used + 2 + widths[next] <= Terminal.width {
        used += 2 + widths[next]
        columns.append(next)
        next += 1
      }
      Output.line()
      for row in rows {
        let cells = columns.map { column in
          let space = String(repeating: " ", count: widths[column] - row[column].count)
          return column < leftColumns ? row[column] + space : space + row[column]
        }
        var line = cells.joined(separator: "  ")
        while line.last == " " { line.removeLast() }
        Output.line(line)
      }
    } while next < count
  }

  /// A sentence under a table.
  private static func sentence(_ text: String) {
    for line in Terminal.wrapped(text, width: Terminal.width) { Output.line(line) }
  }

  private static func rounds(_ report: MigrationReport) {
    var rows = [
      [
        "ROUND", "SENT", "ZERO", "DIRTIED", "REMAINING", "SYNC ms", "CALLS", "MAP CALLS",
        "TIME ms", "DOWN ms",
      ]
    ]
    for round in report.rounds {
      let dirtied = round.dirtiedPages.values.reduce(0, &+) &* round.pageByteCount
      rows.append([
        round.isFinal ? "stop" : "\(round.number)",
        ByteCount.text(round.contentPages &* round.pageByteCount),
        ByteCount.text(round.zeroPages &* round.pageByteCount),
        ByteCount.text(dirtied), ByteCount.text(round.remainingBytesAtEnd),
        milliseconds(round.syncNanoseconds), "\(round.backendCallCount)",
        "\(round.mappingCallCount)",
        milliseconds(round.nanoseconds),
        round.prediction.map { range($0, unit: "") }
          ?? milliseconds(report.downtime.totalNanoseconds),
      ])
    }
    table(rows)
    Output.line()
    sentence(
      "in all \(ByteCount.text(report.streamBytes)) in "
        + "\(ByteCount.duration(report.totalNanoseconds)), "
        + "backend calls: \(report.backendCallCount) by syncs, "
        + "\(report.mappingCallCount) by maps and unmaps")
  }

  private static func downtime(_ report: MigrationReport) {
    let actual = report.downtime
    guard let predicted = report.prediction else { return }
    var rows = [["DOWNTIME", "PREDICTED ms", "ACTUAL ms", "BYTES"]]
    func row(
      _ name: String, _ part: ((DowntimePrediction.Pace) -> UInt64)?, _ actual: UInt64?,
      _ bytes: UInt64? = nil
    ) {
      let text = part.map { part in
        span(part(predicted.fastest), part(predicted.slowest), "~")
      }
      rows.append([
        name, text ?? "-", actual.map(milliseconds) ?? "-", bytes.map(ByteCount.text) ?? "-",
      ])
    }
    row("stop vCPUs", nil, actual.stopVCPUsNanoseconds)
    row(
      "device states", \.transitionNanoseconds,
      actual.p2pNanoseconds &+ actual.stopCopyNanoseconds)
    row("final sync", \.syncNanoseconds, actual.finalSyncNanoseconds)
    row(
      "dirty pages", predicted.pageNanoseconds, actual.pagesNanoseconds, actual.pagesBytes)
    row("  of these pinned", nil, nil, predicted.heldBackBytes)
    row(
      "device data", { predicted.deviceNanoseconds($0, overlaps: false) },
      actual.deviceNanoseconds, actual.deviceBytes)
    row("machine state", nil, actual.stateNanoseconds)
    row(
      "answers", \.answerNanoseconds,
      actual.loadedNanoseconds &+ actual.startNanoseconds)
    rows.append(["all", range(predicted, unit: ""), milliseconds(actual.totalNanoseconds), "-"])
    table(rows)
    if predicted.isLowerBound {
      let names = predicted.devicesWithoutEstimate.joined(separator: ", ")
      sentence("the prediction is a lower bound: \(names) does not say how much it holds")
    }
  }

  private static func devices(_ result: SampleRun.Result) {
    var passed = [["DEVICE", "INTERFACE", "STATES"]]
    for device in result.report.devices {
      let states = device.states.map(\.description).joined(separator: " ")
      passed.append([device.name, "\(device.interface)", states])
    }
    table(passed, leftColumns: 3)
    var rows = [["DEVICE", "PRE-COPY", "STOP-COPY", "WRITES", "REFUSED"]]
    for (device, writes) in zip(result.report.devices, result.deviceWrites) {
      rows.append([
        device.name, ByteCount.text(device.precopyBytes), ByteCount.text(device.stopCopyBytes),
        "\(writes.done)", "\(writes.refused)",
      ])
    }
    table(rows)
  }

  private static func containers(_ result: SampleRun.Result) {
    var rows = [
      [
        "CONTAINER", "SCOPES", "MAPS", "UNMAPS", "CALLS", "MAP CALLS", "DEVICE", "UNMAP",
        "CONSERV",
      ]
    ]
    let sources = result.report.pagesBySource
    for (index, container) in result.containers.enumerated() {
      let counts = result.driverCounts[index].counts
      let own = result.report.rounds.flatMap(\.sync.containers)
        .filter { $0.container == container.id }
      rows.append([
        container.name, scopes(container.scopes), "\(counts.mapCount)",
        "\(counts.unmapCount)", "\(own.reduce(0) { $0 + $1.backendCallCount })",
        "\(own.reduce(0) { $0 + $1.mappingCallCount })",
        ByteCount.text((sources[.deviceQuery(container.id)] ?? 0) &* 4096),
        ByteCount.text((sources[.unmap(container.id)] ?? 0) &* 4096),
        ByteCount.text((sources[.conservative(container.id)] ?? 0) &* 4096),
      ])
    }
    table(rows, leftColumns: 2)
  }

  /// Each once, with how many there are.
  static func scopes(_ scopes: [String]) -> String {
    var parts: [String] = []
    for scope in scopes where !parts.contains(scope) { parts.append(scope) }
    return parts.map { part in
      let count = scopes.filter { $0 == part }.count
      return count == 1 ? part : "\(count) x \(part)"
    }.joined(separator: ", ")
  }

  private static func verdict(_ result: SampleRun.Result) {
    Output.line()
    if let verdict = result.verdict { compared(verdict) }
    Output.line(
      "CPU-invisible pages  \(result.deviceOnlyPages) that only device tracking could find")
    if let recorded = result.recorded {
      Output.line("recorded             \(recorded.events) events to \(recorded.path)")
      Output.line("state digest         \(hexadecimal(recorded.stateDigest))")
      if recorded.dropped > 0 {
        Output.line(
          "                     \(recorded.dropped) older ones were dropped: it gives no state")
      }
    }
    if let over = result.report.overLimitNanoseconds {
      Swift.print(
        "downtime limit       missed by \(ByteCount.duration(over)): "
          + "\(ByteCount.duration(result.report.downtime.totalNanoseconds)) of "
          + ByteCount.duration(result.report.downtimeLimitNanoseconds))
    }
    if let broken = result.command.broken {
      Output.line("left out on purpose  \(broken.rawValue)")
    }
    switch result.verdict?.isEqual {
    case nil:
      Output.line("verdict              none: the stream is whole, and nobody was asked")
    case false?: Output.line("verdict              DIFFERENT")
    case true? where result.deviceOnlyPages == 0:
      Output.line("verdict              equal, but no device wrote: this proves nothing")
    case true?: Output.line("verdict              equal: nothing is missing")
    }
  }

  private static func compared(_ verdict: SampleVerdict) {
    Output.line("pages compared       \(verdict.pagesCompared), byte for byte")
    Output.line("pages different      \(verdict.pagesDifferent)")
    for gpa in verdict.different.prefix(8) { Output.line("                     GPA \(gpa)") }
    let listed = UInt64(min(verdict.different.count, 8))
    if verdict.pagesDifferent > listed {
      Output.line("                     and \(verdict.pagesDifferent - listed) more")
    }
    if !verdict.devicesDifferent.isEmpty {
      sentence("devices different    \(verdict.devicesDifferent.joined(separator: ", "))")
    }
  }

  /// `61.2-74.5 ms`; `~12.0 ms` where both ends are one; `>12.0 ms` for a lower bound.
  static func range(_ prediction: DowntimePrediction) -> String { range(prediction, unit: " ms") }

  private static func range(_ prediction: DowntimePrediction, unit: String) -> String {
    if prediction.isLowerBound { return ">" + milliseconds(prediction.lowNanoseconds) + unit }
    return span(prediction.lowNanoseconds, prediction.highNanoseconds, prediction.mark) + unit
  }

  private static func span(_ low: UInt64, _ high: UInt64, _ mark: String) -> String {
    let (first, last) = (milliseconds(low), milliseconds(max(low, high)))
    return first == last ? mark + first : "\(first)-\(last)"
  }

  static func milliseconds(_ nanoseconds: UInt64) -> String {
    nanoseconds > 1 << 60 ? "-" : ByteCount.number(Double(nanoseconds) / 1e6, digits: 1)
  }
}
