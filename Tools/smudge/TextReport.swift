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
    if !result.notes.isEmpty { Swift.print() }
    for note in result.notes {
      for line in Terminal.lines("note", note, width: Terminal.width) { Swift.print(line) }
    }
    verdict(result)
  }

  static func table(_ rows: [[String]], leftColumns: Int = 1) {
    guard let width = rows.first?.count else { return }
    let widths = (0..<width).map { column in rows.map { $0[column].count }.max() ?? 0 }
    Swift.print()
    for row in rows {
      let cells = row.enumerated().map { column, text in
        let space = String(repeating: " ", count: widths[column] - text.count)
        return column < leftColumns ? text + space : space + text
      }
      var line = cells.joined(separator: "  ")
      while line.last == " " { line.removeLast() }
      Swift.print(line)
    }
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
        round.prediction.map { "~" + milliseconds($0.totalNanoseconds) }
          ?? milliseconds(report.downtime.totalNanoseconds),
      ])
    }
    table(rows)
    Swift.print(
      "\nin all \(ByteCount.text(report.streamBytes)) in "
        + "\(ByteCount.duration(report.totalNanoseconds)), "
        + "backend calls: \(report.backendCallCount) by syncs, "
        + "\(report.mappingCallCount) by maps and unmaps"
    )
  }

  private static func downtime(_ report: MigrationReport) {
    let actual = report.downtime
    guard let predicted = report.prediction else { return }
    var rows = [["DOWNTIME", "PREDICTED ms", "ACTUAL ms", "BYTES"]]
    func row(_ name: String, _ predicted: UInt64?, _ actual: UInt64?, _ bytes: UInt64? = nil) {
      rows.append([
        name, predicted.map { "~" + milliseconds($0) } ?? "-",
        actual.map(milliseconds) ?? "-", bytes.map(ByteCount.text) ?? "-",
      ])
    }
    let pages = predicted.dirtyBytes &+ predicted.heldBackBytes
    row("stop vCPUs", nil, actual.stopVCPUsNanoseconds)
    row(
      "device states", predicted.transitionNanoseconds,
      actual.p2pNanoseconds &+ actual.stopCopyNanoseconds)
    row("final sync", predicted.syncNanoseconds, actual.finalSyncNanoseconds)
    row(
      "dirty pages", predicted.transferNanoseconds(pages), actual.pagesNanoseconds,
      actual.pagesBytes)
    row(
      "  of these pinned", predicted.transferNanoseconds(predicted.heldBackBytes), nil,
      predicted.heldBackBytes)
    row(
      "device data", predicted.transferNanoseconds(predicted.deviceBytes),
      actual.deviceNanoseconds, actual.deviceBytes)
    row("machine state", nil, actual.stateNanoseconds)
    row(
      "answers", predicted.answerNanoseconds,
      actual.loadedNanoseconds &+ actual.startNanoseconds)
    row("all", predicted.totalNanoseconds, actual.totalNanoseconds)
    table(rows)
    if predicted.isLowerBound {
      let names = predicted.devicesWithoutEstimate.joined(separator: ", ")
      Swift.print("the prediction is a lower bound: \(names) does not say how much it holds")
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
    let verdict = result.verdict
    Swift.print()
    Swift.print("pages compared       \(verdict.pagesCompared), byte for byte")
    Swift.print("pages different      \(verdict.pagesDifferent)")
    for gpa in verdict.different.prefix(8) { Swift.print("                     GPA \(gpa)") }
    let listed = UInt64(min(verdict.different.count, 8))
    if verdict.pagesDifferent > listed {
      Swift.print("                     and \(verdict.pagesDifferent - listed) more")
    }
    if !verdict.devicesDifferent.isEmpty {
      Swift.print("devices different    \(verdict.devicesDifferent.joined(separator: ", "))")
    }
    Swift.print(
      "CPU-invisible pages  \(result.deviceOnlyPages) that only device tracking could find")
    if let recorded = result.recorded {
      Swift.print("recorded             \(recorded.events) events to \(recorded.path)")
      Swift.print("state digest         \(hexadecimal(recorded.stateDigest))")
      if recorded.dropped > 0 {
        Swift.print(
          "                     \(recorded.dropped) older ones were dropped: it gives no state")
      }
    }
    if let broken = result.command.broken {
      Swift.print("left out on purpose  \(broken.rawValue)")
    }
    if !verdict.isEqual {
      Swift.print("verdict              DIFFERENT")
    } else if result.deviceOnlyPages == 0 {
      Swift.print("verdict              equal, but no device wrote: this proves nothing")
    } else {
      Swift.print("verdict              equal: nothing is missing")
    }
  }

  static func milliseconds(_ nanoseconds: UInt64) -> String {
    nanoseconds > 1 << 60 ? "-" : ByteCount.number(Double(nanoseconds) / 1e6, digits: 1)
  }
}
