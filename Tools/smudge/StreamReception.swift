import DeviceMigration
import MigrationTransport

/// The receiving side's wait for the peer that is meant, the same for a sample and for real
/// devices: one that says no fitting hello, or not in time, is turned away, and the next one is
/// listened to.
struct StreamReception {
  let command: ReceiveCommand
  let tls: TLSContext?

  /// A guest, from the first peer that says a hello that fits.
  /// - Returns: the channel by which it came.
  func guest(
    into destination: MigrationDestination, from listener: MigrationListener
  ) throws -> any ByteChannel {
    while true {
      let channel = try listener.accept(
        timeoutMilliseconds: command.machine.timeoutMilliseconds)
      let isLast = !listener.address.canConnectAgain
      guard let stream = try hears(destination, channel, isLast: isLast) else { continue }
      do throws(MigrationError) {
        while try destination.step() {}
      } catch {
        throw ToolError("\(error)")
      }
      return stream
    }
  }

  /// The channel by which a hello came that fits. Where none did, nothing was touched, and the next
  /// peer may be the one that is meant.
  private func hears(
    _ destination: MigrationDestination, _ channel: FileDescriptorChannel, isLast: Bool
  ) throws(ToolError) -> (any ByteChannel)? {
    let timeout = command.machine.timeoutMilliseconds
    let deadline = Deadline(milliseconds: timeout, channel)
    do {
      let stream: any ByteChannel =
        try tls.map { try TLSChannel(accepting: channel, $0) } ?? channel
      destination.open(stream)
      _ = try destination.step()
      deadline.meet()
      return stream
    } catch {
      let text =
        deadline.hasPassed
        ? "no whole hello came in \(timeout / 1000) seconds on \(channel.name)" : "\(error)"
      guard !isLast else { throw ToolError(text) }
      Terminal.error("smudge: \(text); waiting for another peer")
      return nil
    }
  }
}
