import DeviceMigration
import MigrationTransport
import Simulation

/// The sending side's way to its destination, the same for a sample and for real devices: a
/// connect that --timeout and the first signal end, TLS, signs of life while the source is busy,
/// and a bound on the time the guest stands still.
struct SourceConnection {
  private let command: MigrateCommand
  private let interruption = Interruption()
  private let tls: TLSContext?

  init(_ command: MigrateCommand) throws(ToolError) {
    self.command = command
    tls = try command.tls.context()
    if let address { command.tls.warn(address) }
  }

  /// Nil for a child.
  var address: MigrationAddress? { command.to.flatMap { try? MigrationAddress($0) } }

  /// - Parameter request: what a signal asks to end; nil for the comparison, which it ends at once.
  func connect(
    _ child: SecondProcess?, _ request: CancellationRequest?
  ) throws -> any ByteChannel {
    let timeout = command.machine.timeoutMilliseconds
    let isInterrupted = { interruption.status != nil }
    if let child {
      let channel = try child.connect(timeoutMilliseconds: timeout, unless: isInterrupted)
      return try watched(channel, request)
    }
    let address = try MigrationAddress(command.to ?? "")
    let socket = try Connecting.connect(
      to: address, timeoutMilliseconds: timeout, unless: isInterrupted)
    guard let tls else { return try watched(socket, request) }
    // The handshake, too, ends for a signal.
    _ = try watched(socket, nil)
    return try watched(try tls.connected(socket, to: address), request)
  }

  private func watched(
    _ channel: any ByteChannel, _ request: CancellationRequest?
  ) throws -> any ByteChannel {
    interruption.watch(request, channel)
    if interruption.status != nil { throw ToolError("interrupted") }
    return channel
  }

  /// The whole migration, from the connect on.
  /// - Parameter armed: is given what has to hear of the migration's events.
  func migrate(
    _ source: MigrationSource, to child: SecondProcess? = nil,
    devices: [any MigratableDevice], isRunning: () -> Bool, armed: (StopWatchdog) -> Void
  ) throws(ToolError) -> (MigrationReport, any ByteChannel) {
    let channel: any ByteChannel
    do {
      channel = try connect(child, source.cancellation)
    } catch {
      var failure = ToolFailure()
      failure.phase = "connect"
      failure.cause = "\(error)"
      failure.guest = .source
      failure.devices = devices.map { device in
        ToolFailure.Device(
          name: device.name, state: "\(device.state)", isLost: false, became: nil)
      }
      throw ToolError("\(error); the guest runs on here", interruption.status, failure)
    }
    armed(
      StopWatchdog(limitMilliseconds: command.stopLimitMilliseconds, source.cancellation, channel))
    let heartbeat = Heartbeat(
      source.signOfLife, timeoutMilliseconds: command.machine.timeoutMilliseconds)
    defer { withExtendedLifetime(heartbeat) {} }
    do throws(MigrationError) {
      return (try source.run(over: channel), channel)
    } catch {
      throw ToolError(
        error, devices: devices, isRunning: isRunning(), interruption: interruption.status)
    }
  }
}

/// Hears of a migration that nobody watches on a screen.
final class WatchdogObserver: MigrationObserver {
  var watchdog: StopWatchdog?

  func migration(_ event: MigrationEvent) { watchdog?.heard(event) }
}
