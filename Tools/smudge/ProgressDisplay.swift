import DeviceMigration
import Foundation
import GuestDirtyLog
import Simulation

/// Says on standard output what a migration does while it does it. Bytes that remain and their
/// trend, never a share that could fall.
final class ProgressDisplay: MigrationObserver {
  private let machine: SampleMachine
  private let isQuiet: Bool
  /// Hears of everything, too.
  var watchdog: StopWatchdog?
  /// Remaining at the end of the round before.
  private var lastRemaining: UInt64?
  private var lastProgress: UInt64 = 0
  private var lineIsOpen = false
  /// Steps of devices that came one after the other, said in one line.
  private var deviceSteps: [String] = []

  init(_ machine: SampleMachine, isQuiet: Bool) {
    self.machine = machine
    self.isQuiet = isQuiet
  }

  func opening(_ options: SampleOptions) {
    let kinds = machine.containers.map { container in
      let names = machine.devices.filter { $0.container == container.kind }.map(\.name)
      return "\(container.kind.rawValue) (\(names.joined(separator: ", ")))"
    }
    say(
      "sample machine",
      "\(ByteCount.text(options.memoryByteCount)) RAM, vCPUs: \(options.vcpuCount), "
        + "seed \(options.seed)")
    say("containers", kinds.joined(separator: ", "))
    say("vCPU writes", machine.cpuSource.name)
  }

  func close() {
    sayDeviceSteps()
    clearLine()
  }

  func recorded(_ note: String) { say("recorded", note) }

  func recorded(_ written: Recording.Written) {
    say("recorded", "\(written.events) events to \(written.path)")
    say("state digest", hexadecimal(written.stateDigest))
  }

  func migration(_ event: MigrationEvent) {
    watchdog?.heard(event)
    if case .deviceState(let device, let state) = event {
      deviceSteps.append("\(device)\(Terminal.unbroken)\(state)")
      return
    }
    sayDeviceSteps()
    switch event {
    case .status(let status): say("status", status.rawValue)
    case .deviceState, .roundBegan, .starting: break
    case .progress(let round, let sent, let remaining): progress(round, sent, remaining)
    case .roundEnded(let round, let decision): ended(round, decision)
    case .stopping(let prediction):
      say("stopping", "predicted downtime \(prediction.map(TextReport.range) ?? "-")")
    case .throttled(let percent): say("throttled", "\(percent) % of vCPU time taken")
    case .returnedToRounds: say("runs on", "a device has new initial data")
    case .putBack(let pages): say("put back", "\(pages) pages of a send that failed")
    case .downtimeEnded(let downtime):
      say("downtime", ByteCount.duration(downtime.totalNanoseconds))
    case .failed(let reason): say("failed", reason)
    case .note(let text): say("note", text)
    }
  }

  private func progress(_ round: Int, _ sent: UInt64, _ remaining: UInt64) {
    let now = Clock.nanoseconds()
    guard !isQuiet, Terminal.isOutput, now &- lastProgress > 100_000_000 else { return }
    lastProgress = now
    let text = Terminal.lines(
      "round \(round)",
      "\(ByteCount.text(remaining)) remaining; sent \(ByteCount.text(sent)) so far",
      width: Terminal.width - 1)[0]
    // The rest of the line goes, so that no longer one shows behind it.
    Output.write("\r" + text + Terminal.eraseRest(after: text.count))
    lineIsOpen = true
  }

  private func ended(_ round: MigrationRound, _ decision: MigrationDecision) {
    // What a device writes from here on, where no vCPU ever did, and is not asked for, is lost:
    // the verdict's ground truth.
    if round.number == 1 {
      machine.ledger.forgetDeviceWrites()
      do { try machine.openQueues() } catch { say("note", "\(error)") }
    }
    let remaining = round.remainingBytesAtEnd
    let trend = lastRemaining.map {
      remaining < $0 ? "falling" : remaining > $0 ? "rising" : "flat"
    }
    lastRemaining = remaining
    let name = round.isFinal ? "last pass" : "round \(round.number)"
    say(name, "\(ByteCount.text(remaining)) remaining" + (trend.map { ", \($0)" } ?? ""))
    say("", "dirtied \(DirtyRates(round).text)")
    if let prediction = round.prediction {
      say(
        "",
        "predicted downtime \(TextReport.range(prediction)): \(decision)")
    }
  }

  private func sayDeviceSteps() {
    guard !deviceSteps.isEmpty else { return }
    let text = deviceSteps.joined(separator: ", ")
    deviceSteps = []
    say("devices", text)
  }

  private func clearLine() {
    if lineIsOpen { Output.write("\r" + Terminal.eraseRest(after: 0) + "\r") }
    lineIsOpen = false
  }

  private func say(_ label: String, _ text: String) {
    guard !isQuiet else { return }
    clearLine()
    Terminal.say(label, text)
  }
}

/// Dirty rate of one round by kind of source. Bytes in a second.
struct DirtyRates {
  private(set) var parts: [(name: String, bytesPerSecond: UInt64)] = []

  init(_ round: MigrationRound) {
    let seconds = max(Double(round.nanoseconds) / 1e9, 1e-9)
    for name in ["vcpu", "device", "unmap", "conservative", "put back"] {
      let pages = round.dirtiedPages.filter { Self.name($0.key) == name }.values.reduce(0, &+)
      guard pages > 0 else { continue }
      parts.append((name, UInt64(Double(pages &* round.pageByteCount) / seconds)))
    }
  }

  static func name(_ source: DirtySource) -> String {
    switch source {
    case .vcpu: "vcpu"
    case .deviceQuery: "device"
    case .unmap: "unmap"
    case .conservative: "conservative"
    case .putBack: "put back"
    }
  }

  var text: String {
    parts.isEmpty
      ? "nothing"
      : parts.map { part in
        let text = "\(part.name) \(ByteCount.text(part.bytesPerSecond))/s"
        return String(text.map { $0 == " " ? Terminal.unbroken : $0 })
      }.joined(separator: ", ")
  }
}
