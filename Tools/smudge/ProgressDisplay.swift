import DeviceMigration
import Foundation
import GuestDirtyLog
import Simulation

/// Says on standard output what a migration does while it does it. Bytes that remain and their
/// trend, never a share that could fall.
final class ProgressDisplay: MigrationObserver {
  private let machine: SampleMachine
  private let isQuiet: Bool
  private let isTerminal: Bool
  private var lastRemaining: UInt64?
  private var lastProgress: UInt64 = 0
  private var lineIsOpen = false

  init(_ machine: SampleMachine, isQuiet: Bool) {
    self.machine = machine
    self.isQuiet = isQuiet
    isTerminal = isatty(STDOUT_FILENO) == 1
  }

  func opening(_ options: SampleOptions) {
    let kinds = machine.containers.map { container in
      let names = machine.devices.filter { $0.container == container.kind }.map(\.name)
      return "\(container.kind.rawValue) (\(names.joined(separator: ", ")))"
    }
    say(
      "sample machine  \(ByteCount.text(options.memoryByteCount)) RAM, \(options.vcpuCount) vCPUs, "
        + "seed \(options.seed)")
    say("containers      " + kinds.joined(separator: ", "))
    say("vCPU writes     \(machine.cpuSource.name)")
  }

  func close() {
    if lineIsOpen { print() }
    lineIsOpen = false
  }

  func migration(_ event: MigrationEvent) {
    switch event {
    case .status(let status): say("status          \(status.rawValue)")
    case .deviceState(let device, let state): say("device          \(device) -> \(state)")
    case .roundBegan: break
    case .progress(let round, _, let remaining): progress(round, remaining)
    case .roundEnded(let round, let decision): ended(round, decision)
    case .stopping(let prediction):
      let text = prediction.map { "~" + ByteCount.duration($0.totalNanoseconds) } ?? "-"
      say("stopping        predicted downtime \(text)")
    case .putBack(let pages): say("put back        \(pages) pages of a send that failed")
    case .downtimeEnded(let downtime):
      say("downtime        \(ByteCount.duration(downtime.totalNanoseconds))")
    case .failed(let reason): say("failed          \(reason)")
    case .note(let text): say("note            \(text)")
    }
  }

  private func progress(_ round: Int, _ remaining: UInt64) {
    let now = Clock.nanoseconds()
    guard !isQuiet, isTerminal, now &- lastProgress > 100_000_000 else { return }
    lastProgress = now
    let text = "round \(round)         remaining \(ByteCount.text(remaining))"
    print("\r" + text + String(repeating: " ", count: max(0, 60 - text.count)), terminator: "")
    fflush(nil)
    lineIsOpen = true
  }

  private func ended(_ round: MigrationRound, _ decision: MigrationDecision) {
    // What a device writes from here on, where no vCPU ever did, and is not asked for, is lost:
    // the verdict's ground truth.
    if round.number == 1 {
      machine.ledger.forgetDeviceWrites()
      do { try machine.openQueues() } catch { say("note            \(error)") }
    }
    let remaining = round.remainingBytesAtEnd
    let trend = lastRemaining.map {
      remaining < $0 ? "falling" : remaining > $0 ? "rising" : "flat"
    }
    lastRemaining = remaining
    let rates = DirtyRates(round)
    say(
      "round \(round.number)         remaining \(ByteCount.text(remaining))"
        + (trend.map { ", \($0)" } ?? "") + "; dirtied \(rates.text)")
    if let prediction = round.prediction {
      say(
        "                predicted downtime ~\(ByteCount.duration(prediction.totalNanoseconds))"
          + (prediction.isLowerBound ? " at least" : "") + "; \(decision)")
    }
  }

  private func say(_ text: String) {
    guard !isQuiet else { return }
    close()
    print(text)
    // Through a pipe, too, this is to be seen as it happens.
    fflush(nil)
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
      : parts.map { "\($0.name) \(ByteCount.text($0.bytesPerSecond))/s" }
        .joined(separator: ", ")
  }
}
