import Addressing
public import GuestDirtyLog

/// The receiving side of a migration: reads the stream into guest memory, loads the devices, and
/// starts the guest when the source says that it will not.
///
/// Invariants:
/// 1. Nothing is touched before the source's hello is found to fit: RAM, devices, features.
/// 2. The guest starts only on a stream whose every section held, in order, with its totals, and
///    only after the source's `start` where the source waits for answers.
/// 3. A failure before the guest runs leaves every device reset and the guest stopped, and tells
///    the source why. The memory holds parts of the source's then, and must be discarded.
/// 4. No byte of the stream traps, and no page outside RAM is touched.
/// 5. The guest starts only when every page of RAM came at least once, with content or as a page of
///    zeroes, and the configuration of every device that has one.
///
/// States (``Stage``):
///
///     hello ──> rounds <──> inRound(n)
///                 └─ stopped ──> complete ─ start ──> done
///                                    └─ one-way, end of stream ──> done
///
/// One thread drives it, by ``receive(from:)`` or by ``open(_:)`` and ``step()``.
public final class MigrationDestination {
  enum Stage: Hashable {
    case hello
    case rounds
    case inRound(UInt64)
    case stopped
    case complete
    case done
  }

  public let regions: [RAMRegion]
  public internal(set) var report = DestinationReport()
  public internal(set) var isGuestRunning = false
  let machine: any MigratingMachine
  let memory: any GuestMemory
  let localDevices: [any MigratableDevice]
  let clock: () -> UInt64
  weak var observer: (any MigrationObserver)?

  // One attempt.
  var link: Link?
  var stage = Stage.done
  var isLoading = false
  var wantsAnswers = false
  var lastRound: UInt64 = 0
  var totals = StreamTotals()
  var machineState: [UInt8] = []
  var hasMachineState = false
  var payload: [UInt8] = []
  var incoming: [Incoming] = []
  var arrival: PageArrival?
  /// What it took to bring all devices to RESUMING.
  var walkNanoseconds: UInt64 = 0

  struct Link {
    let channel: any ByteChannel
    let reader: StreamReader
    let answers: StreamWriter?
  }

  /// A device of the stream, in the order of its hello.
  struct Incoming {
    let device: any MigratableDevice
    var chunks: UInt64 = 0
    var hasEnded = false
    var hasConfiguration = false
  }

  /// - Parameters:
  ///   - regions: RAM as the guest will have it here; the source's must be the same.
  ///   - observer: held weakly.
  public init(
    machine: any MigratingMachine, memory: any GuestMemory, regions: [RAMRegion],
    devices: [any MigratableDevice], clock: @escaping () -> UInt64 = { 0 },
    observer: (any MigrationObserver)? = nil
  ) {
    self.machine = machine
    self.memory = memory
    self.regions = regions
    self.localDevices = devices
    self.clock = clock
    self.observer = observer
  }

  /// A whole migration. On an error nothing of it is left but memory.
  public func receive(from channel: any ByteChannel) throws(MigrationError) -> DestinationReport {
    open(channel)
    while try step() {}
    return report
  }

  /// Begins an attempt; reads nothing yet.
  public func open(_ channel: any ByteChannel) {
    precondition(!isGuestRunning, "the guest runs here already")
    link = Link(
      channel: channel, reader: StreamReader(channel),
      answers: channel.isBidirectional ? StreamWriter(channel) : nil)
    stage = .hello
    report = DestinationReport()
    isLoading = false
    wantsAnswers = false
    lastRound = 0
    totals = StreamTotals()
    machineState = []
    hasMachineState = false
    incoming = []
    arrival = nil
    walkNanoseconds = 0
  }

  /// Reads and does one section.
  /// - Returns: false when the guest runs.
  public func step() throws(MigrationError) -> Bool {
    guard let link, stage != .done else { return false }
    do throws(MigrationError.Cause) {
      if stage == .hello {
        try greet(link)
      } else if stage == .complete && !wantsAnswers {
        try end(link)
      } else {
        try take(try section { (reader) throws(StreamError) in try reader.nextSection() })
      }
    } catch {
      throw MigrationError(phase: .load, cause: error, aftermath: fail(error))
    }
    report.streamBytes = link.reader.offset
    return stage != .done
  }

  func section<R>(
    _ body: (StreamReader) throws(StreamError) -> R
  ) throws(MigrationError.Cause) -> R {
    guard let link else { preconditionFailure("no attempt is under way") }
    do throws(StreamError) {
      return try body(link.reader)
    } catch {
      throw .stream(error)
    }
  }

  func refuse(_ reason: StreamError.Reason) -> MigrationError.Cause {
    .stream(StreamError(reason, offset: link?.reader.sectionOffset ?? 0))
  }

  func onDevice<R>(_ body: () throws(DeviceError) -> R) throws(MigrationError.Cause) -> R {
    do throws(DeviceError) {
      return try body()
    } catch {
      throw .device(error)
    }
  }

  func tell(
    _ kind: StreamSectionKind, argument: UInt64 = 0, count: UInt32 = 0
  ) throws(MigrationError.Cause) {
    guard wantsAnswers, let answers = link?.answers else { return }
    do throws(ChannelError) {
      try answers.write(kind, argument: argument, count: count)
    } catch {
      throw .channel(error)
    }
  }

  /// Leaves devices reset and the source told.
  private func fail(_ cause: MigrationError.Cause) -> MigrationAftermath {
    var aftermath = MigrationAftermath()
    if isLoading {
      for entry in incoming {
        aftermath.devices.append(reset(entry.device))
        observe(entry.device)
      }
    }
    aftermath.notes.append("the guest does not run here")
    if case .sourceAborted = cause {
      // It knows.
    } else if let answers = link?.answers {
      let kind: StreamSectionKind = stage == .hello ? .refused : .failed
      do throws(ChannelError) {
        if answers.byteCount == 0 { try answers.begin() }
        try answers.write(kind, text: "\(cause)")
      } catch {
        aftermath.notes.append("the source was not told: \(error)")
      }
    }
    link?.channel.shutDown()
    link = nil
    stage = .done
    isLoading = false
    observer?.migration(.status(.failed))
    observer?.migration(.failed("\(cause)"))
    return aftermath
  }

  /// What was loaded is the source's, and must not live on here: a device that got as far as
  /// RUNNING is taken back to RESUMING first, from where recovery is a reset.
  private func reset(_ device: any MigratableDevice) -> DeviceAftermath {
    do throws(DeviceError) {
      if device.state == .running || device.state == .runningP2P {
        try? device.stop()
        try? device.beginResuming()
      }
      return DeviceAftermath(device: device.name, result: .success(try device.recover()))
    } catch {
      return DeviceAftermath(device: device.name, result: .failure(error))
    }
  }

  func observe(_ device: any MigratableDevice) {
    observer?.migration(.deviceState(device: device.name, state: device.state))
  }
}

/// What a destination can say about a migration afterwards.
public struct DestinationReport: Sendable, Hashable {
  public var totals = StreamTotals()
  /// The source's, of its hello.
  public var token: UInt64 = 0
  public var roundCount: UInt64 = 0
  public var streamBytes: UInt64 = 0
  /// States of each device, by its name.
  public var deviceStates: [String: [DeviceState]] = [:]
  /// From `start`, or the end of a one-way stream, until vCPUs ran.
  public var startNanoseconds: UInt64 = 0
  public var notes: [String] = []

  public init() {}
}
