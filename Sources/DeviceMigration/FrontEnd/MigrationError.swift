public import Addressing
public import GuestDirtyLog

/// A migration did not succeed. What was done about it is part of the error.
public struct MigrationError: Error, Sendable, CustomStringConvertible {
  public enum Cause: Error, Sendable, Hashable, CustomStringConvertible {
    /// Nothing was changed.
    case blocked([MigrationBlocker])
    case device(DeviceError)
    case machine(MachineError)
    case channel(ChannelError)
    case stream(StreamError)
    case log(GuestDirtyLogError)
    /// Harvested pages that the guest memory does not have.
    case memoryMissing(GPARange)
    /// The destination said no, in its words.
    case refused(String)
    case cancelled(String)
    case notConverging(rounds: Int, predicted: DowntimePrediction)
    /// The VM was resumed after its devices had been stopped.
    case resumedMeanwhile
    /// Pages are reported dirty again and again though vCPUs and devices have stopped.
    case writtenAfterStop(pages: UInt64)
    /// The source gave up, in its words.
    case sourceAborted(String)
    /// The destination was told to start and did not answer: it may run. Nothing runs here.
    case outcomeUnknown(String)

    public var description: String {
      switch self {
      case .blocked(let blockers):
        "blocked: " + blockers.map(\.description).joined(separator: "; ")
      case .device(let error): "\(error)"
      case .machine(let error): "\(error)"
      case .channel(let error): "\(error)"
      case .stream(let error): "\(error)"
      case .log(let error): "\(error)"
      case .memoryMissing(let range): "dirty pages at GPA \(range) are not guest memory"
      case .refused(let reason): "the destination refused: \(reason)"
      case .cancelled(let reason): "cancelled: \(reason)"
      case .notConverging(let rounds, let predicted):
        "not converging: after \(rounds) rounds the predicted downtime is \(predicted.sentence)"
      case .resumedMeanwhile: "the VM was resumed after its devices had been stopped"
      case .writtenAfterStop(let pages):
        "\(pages) pages were still being written after vCPUs and devices had stopped"
      case .sourceAborted(let reason): "the source gave up: \(reason)"
      case .outcomeUnknown(let why):
        "the destination was told to start and did not answer (\(why)); it may run, so nothing "
          + "runs here until that is known"
      }
    }
  }

  /// Where it stopped.
  public let phase: MigrationPhase
  public let cause: Cause
  public let aftermath: MigrationAftermath

  public var description: String {
    let text = "migration failed in \(phase.rawValue): \(cause)"
    return aftermath.sentences.isEmpty
      ? text : text + "; " + aftermath.sentences.joined(separator: "; ")
  }
}

/// The steps of a migration, on either side.
public enum MigrationPhase: String, Sendable, Hashable {
  case idle
  case begin
  case rounds
  case stopAndCopy = "stop-and-copy"
  case finish
  case done
  case load
}

/// What was done after a failure, to lose nothing.
public struct MigrationAftermath: Sendable, Hashable {
  public var devices: [DeviceAftermath] = []
  public var pagesPutBack: UInt64 = 0
  public var vcpusResumed = false
  /// Everything else, a clause each.
  public var notes: [String] = []

  public init() {}

  public var sentences: [String] {
    var all = devices.map(\.description)
    if pagesPutBack > 0 { all.append("\(pagesPutBack) pages put back") }
    if vcpusResumed { all.append("the guest runs on here") }
    return all + notes
  }
}
