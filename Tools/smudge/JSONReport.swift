import Addressing
import DeviceMigration
import DirtyTracker
import Foundation
import GuestDirtyLog
import Simulation

/// The same for machines. Schema `smudge.migrate/1`: members are only ever added. Addresses are
/// strings, since JSON numbers lose 64-bit integers; what is not known is null.
enum JSONReport {
  struct Document: Encodable {
    let schema = "smudge.migrate/1"
    let tool = Smudge.version
    let time: String
    let seed: UInt64
    let memoryBytes: UInt64
    let downtimeLimitMilliseconds: Int
    @OrNull var leftOut: String?
    let status: String
    @OrNull var stopReason: String?
    /// 0: within the limit.
    let downtimeOverLimitNanoseconds: UInt64
    let throttledPercentMax: Int
    let vcpuDirtySource: String
    let totalNanoseconds: UInt64
    let streamBytes: UInt64
    /// Of starts, syncs and the stop; and for the guest's maps and unmaps.
    let backendCalls: Int
    let mappingCalls: Int
    let rounds: [Round]
    @OrNull var predictedDowntime: Predicted?
    let downtime: Downtime
    let devices: [Device]
    let containers: [Container]
    @OrNull var recorded: Recorded?
    /// Null where the stream went to a file.
    @OrNull var verdict: Verdict?
    let guest: GuestPlace
    let notes: [String]
  }

  struct Round: Encodable {
    let number: Int
    let isFinal: Bool
    let remainingBytesAtBegin: UInt64
    let remainingBytesAtEnd: UInt64
    let contentPages: UInt64
    let zeroPages: UInt64
    let sentBytes: UInt64
    let deviceBytes: UInt64
    let nanoseconds: UInt64
    let syncNanoseconds: UInt64
    let backendCalls: Int
    let mappingCalls: Int
    let bandwidthBytesPerSecond: UInt64
    let dirtiedPages: [String: UInt64]
    /// One figure, and both ends.
    @OrNull var predictedDowntimeNanoseconds: UInt64?
    @OrNull var predictedDowntimeLowNanoseconds: UInt64?
    @OrNull var predictedDowntimeHighNanoseconds: UInt64?
    /// The downtime is at least that: a device does not say how much it holds.
    @OrNull var predictedDowntimeIsLowerBound: Bool?
  }

  /// The total lies at a third between both ends; the parts are those of the upper end, by which
  /// the decision to stop goes.
  struct Predicted: Encodable {
    let totalNanoseconds: UInt64
    let lowNanoseconds: UInt64
    let highNanoseconds: UInt64
    let dirtyBytes: UInt64
    let heldBackBytes: UInt64
    let deviceBytes: UInt64
    let bandwidthBytesPerSecond: UInt64
    let syncNanoseconds: UInt64
    let transitionNanoseconds: UInt64
    let answerNanoseconds: UInt64
    let devicesWithoutEstimate: [String]
    let isLowerBound: Bool
  }

  struct Downtime: Encodable {
    let totalNanoseconds: UInt64
    let stopVCPUsNanoseconds: UInt64
    let p2pNanoseconds: UInt64
    let stopCopyNanoseconds: UInt64
    let finalSyncNanoseconds: UInt64
    let pagesNanoseconds: UInt64
    let pagesBytes: UInt64
    let deviceNanoseconds: UInt64
    let deviceBytes: UInt64
    let stateNanoseconds: UInt64
    let loadedNanoseconds: UInt64
    let startNanoseconds: UInt64
  }

  struct Device: Encodable {
    let name: String
    let interface: String
    let states: [String]
    let precopyBytes: UInt64
    let stopCopyBytes: UInt64
  }

  struct Container: Encodable {
    let name: String
    let scopes: [String]
    let maps: UInt64
    let unmaps: UInt64
    let refusals: UInt64
    let pagesByQuery: UInt64
    let pagesByUnmap: UInt64
    let pagesConservative: UInt64
  }

  struct Verdict: Encodable {
    let isEqual: Bool
    let pagesCompared: UInt64
    let pagesDifferent: UInt64
    let firstDifferent: [String]
    let devicesDifferent: [String]
    let pagesOnlyDevicesWrote: UInt64
  }

  struct Recorded: Encodable {
    let file: String
    let events: Int
    let droppedEvents: UInt64
    let stateDigest: String
  }

  static func print(_ result: SampleRun.Result) throws { try print(encoding: document(result)) }

  static func print(encoding document: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    Output.line(String(decoding: try encoder.encode(document), as: UTF8.self))
  }

  private static func document(_ result: SampleRun.Result) throws -> Document {
    let report = result.report
    return Document(
      time: ISO8601DateFormatter().string(from: Date()), seed: result.command.machine.seed,
      memoryBytes: try result.command.machine.memoryByteCount,
      downtimeLimitMilliseconds: result.command.limit, leftOut: result.command.broken?.rawValue,
      status: report.status.rawValue, stopReason: report.stopReason?.description,
      downtimeOverLimitNanoseconds: report.overLimitNanoseconds ?? 0,
      throttledPercentMax: report.throttledPercentMax,
      vcpuDirtySource: result.cpuSource, totalNanoseconds: report.totalNanoseconds,
      streamBytes: report.streamBytes, backendCalls: report.backendCallCount,
      mappingCalls: report.mappingCallCount,
      rounds: report.rounds.map(round), predictedDowntime: report.prediction.map(predicted),
      downtime: downtime(report.downtime), devices: report.devices.map(device),
      containers: containers(result), recorded: recorded(result),
      verdict: result.verdict.map { verdict($0, result.deviceOnlyPages) },
      guest: result.guest,
      notes: result.notes)
  }

  private static func round(_ round: MigrationRound) -> Round {
    var dirtied: [String: UInt64] = [:]
    for (source, pages) in round.dirtiedPages {
      dirtied[DirtyRates.name(source), default: 0] &+= pages
    }
    return Round(
      number: round.number, isFinal: round.isFinal,
      remainingBytesAtBegin: round.remainingBytesAtBegin,
      remainingBytesAtEnd: round.remainingBytesAtEnd, contentPages: round.contentPages,
      zeroPages: round.zeroPages, sentBytes: round.sentBytes, deviceBytes: round.deviceBytes,
      nanoseconds: round.nanoseconds, syncNanoseconds: round.syncNanoseconds,
      backendCalls: round.backendCallCount, mappingCalls: round.mappingCallCount,
      bandwidthBytesPerSecond: round.bandwidthBytesPerSecond, dirtiedPages: dirtied,
      predictedDowntimeNanoseconds: round.prediction?.totalNanoseconds,
      predictedDowntimeLowNanoseconds: round.prediction?.lowNanoseconds,
      predictedDowntimeHighNanoseconds: round.prediction?.highNanoseconds,
      predictedDowntimeIsLowerBound: round.prediction?.isLowerBound)
  }

  private static func predicted(_ value: DowntimePrediction) -> Predicted {
    Predicted(
      totalNanoseconds: value.totalNanoseconds, lowNanoseconds: value.lowNanoseconds,
      highNanoseconds: value.highNanoseconds, dirtyBytes: value.dirtyBytes,
      heldBackBytes: value.heldBackBytes, deviceBytes: value.deviceBytes,
      bandwidthBytesPerSecond: value.slowest.bandwidthBytesPerSecond,
      syncNanoseconds: value.slowest.syncNanoseconds,
      transitionNanoseconds: value.slowest.transitionNanoseconds,
      answerNanoseconds: value.slowest.answerNanoseconds,
      devicesWithoutEstimate: value.devicesWithoutEstimate, isLowerBound: value.isLowerBound)
  }

  private static func downtime(_ value: DowntimeMeasured) -> Downtime {
    Downtime(
      totalNanoseconds: value.totalNanoseconds, stopVCPUsNanoseconds: value.stopVCPUsNanoseconds,
      p2pNanoseconds: value.p2pNanoseconds, stopCopyNanoseconds: value.stopCopyNanoseconds,
      finalSyncNanoseconds: value.finalSyncNanoseconds, pagesNanoseconds: value.pagesNanoseconds,
      pagesBytes: value.pagesBytes, deviceNanoseconds: value.deviceNanoseconds,
      deviceBytes: value.deviceBytes, stateNanoseconds: value.stateNanoseconds,
      loadedNanoseconds: value.loadedNanoseconds, startNanoseconds: value.startNanoseconds)
  }

  private static func device(_ device: MigrationReport.Device) -> Device {
    Device(
      name: device.name, interface: "\(device.interface)",
      states: device.states.map(\.description), precopyBytes: device.precopyBytes,
      stopCopyBytes: device.stopCopyBytes)
  }

  private static func containers(_ result: SampleRun.Result) -> [Container] {
    let sources = result.report.pagesBySource
    return zip(result.containers, result.driverCounts).map { container, driver in
      Container(
        name: container.name, scopes: container.scopes, maps: driver.counts.mapCount,
        unmaps: driver.counts.unmapCount, refusals: driver.counts.refusalCount,
        pagesByQuery: sources[.deviceQuery(container.id)] ?? 0,
        pagesByUnmap: sources[.unmap(container.id)] ?? 0,
        pagesConservative: sources[.conservative(container.id)] ?? 0)
    }
  }

  private static func recorded(_ result: SampleRun.Result) -> Recorded? {
    result.recorded.map {
      Recorded(
        file: $0.path, events: $0.events, droppedEvents: $0.dropped,
        stateDigest: hexadecimal($0.stateDigest))
    }
  }

  private static func verdict(_ verdict: SampleVerdict, _ deviceOnlyPages: UInt64) -> Verdict {
    Verdict(
      isEqual: verdict.isEqual, pagesCompared: verdict.pagesCompared,
      pagesDifferent: verdict.pagesDifferent,
      firstDifferent: verdict.different.map(\.description),
      devicesDifferent: verdict.devicesDifferent,
      pagesOnlyDevicesWrote: deviceOnlyPages)
  }
}
