import DeviceMigration

/// How the tool ends. Scripts decide by these numbers where the guest is: none of them means two
/// places.
enum ToolStatus: Int32 {
  case different = 1
  case usage = 2
  /// The guest runs on where it was, or nothing was begun.
  case failed = 3
  /// The destination may run the guest: nobody knows until somebody looks. Nothing runs here.
  case unknown = 4
  /// The guest has moved, and that nothing is missing was not shown, or could not be said.
  case notVerified = 5
  /// The guest is here with its state and stands still.
  case stopped = 6
  /// It has moved whole, and stood still for longer than wanted: `--on-limit stop-anyway`.
  case limitMissed = 7
  /// By SIGINT and by SIGTERM, as a shell counts them. The guest runs on here.
  case interrupted = 130
  case terminated = 143
}

/// What went wrong, as a sentence, and what became of the guest.
struct ToolError: Error, CustomStringConvertible {
  let description: String
  let status: ToolStatus
  var failure = ToolFailure()
  /// The report of the migration has been given; this is what went wrong besides.
  var isAfterReport = false

  init(_ description: String, _ status: ToolStatus = .failed) {
    self.description = description
    self.status = status
    failure.cause = description
  }

  init(_ description: String, _ status: ToolStatus? = nil, _ failure: ToolFailure) {
    self.description = description
    self.status = status ?? failure.guest.status
    self.failure = failure
  }

  /// A migration that failed.
  init(
    _ error: MigrationError, devices: [any MigratableDevice], isRunning: Bool,
    interruption: ToolStatus? = nil
  ) {
    let place = GuestPlace(error, isRunning: isRunning)
    // Where the guest is comes before why.
    let status = place == .source ? interruption ?? .failed : place.status
    var failure = ToolFailure()
    failure.phase = error.phase.rawValue
    failure.cause = "\(error.cause)"
    failure.guest = place
    failure.pagesPutBack = error.aftermath.pagesPutBack
    failure.notes = error.aftermath.notes
    failure.devices = devices.map { device in
      let own = error.aftermath.devices.filter { $0.device == device.name }
      return ToolFailure.Device(
        name: device.name, state: "\(device.state)", isLost: own.contains(where: \.isLost),
        became: own.isEmpty ? nil : own.map(\.description).joined(separator: "; "))
    }
    self.init("\(error)", status, failure)
  }

  /// Anything else, before a guest was started.
  init(before error: any Error) {
    self = error as? ToolError ?? ToolError("\(error)")
  }
}

/// What became of the guest and of each device.
struct ToolFailure: Sendable {
  struct Device: Encodable, Sendable {
    let name: String
    /// The state it says it is in.
    let state: String
    let isLost: Bool
    @OrNull var became: String?
  }

  var phase = "prepare"
  var cause = ""
  var guest = GuestPlace.none
  var pagesPutBack: UInt64 = 0
  var devices: [Device] = []
  var notes: [String] = []
}

/// The same for machines. Schema `smudge.failure/1`: members are only ever added.
struct FailureDocument: Encodable {
  let schema = "smudge.failure/1"
  let tool = Smudge.version
  let exitStatus: Int32
  /// A sentence for people, as on standard error.
  let message: String
  let phase: String
  let cause: String
  let guest: GuestPlace
  let pagesPutBack: UInt64
  let devices: [ToolFailure.Device]
  let notes: [String]

  init(_ error: ToolError) {
    exitStatus = error.status.rawValue
    message = error.description
    phase = error.failure.phase
    cause = error.failure.cause
    guest = error.failure.guest
    pagesPutBack = error.failure.pagesPutBack
    devices = error.failure.devices
    notes = error.failure.notes
  }
}
