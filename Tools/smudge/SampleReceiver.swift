import ArgumentParser
import DeviceMigration
import Foundation
import MigrationTransport
import Simulation

/// The destination of one sample machine, from waiting to the guest that runs on.
struct SampleReceiver {
  let command: ReceiveCommand

  private let tls: TLSContext?

  init(_ command: ReceiveCommand) throws {
    self.command = command
    tls = try command.tls.context()
    command.tls.warn(try command.address)
  }

  func run() throws {
    let sample = try SampleMachine(try command.machine.sampleOptions())
    let listener = try MigrationTransport.listen(on: try command.address)
    command.say("waiting on \(listener.address)")
    let (token, isOneWay) = try receive(sample, listener)
    let differs: Bool
    do {
      differs = try !isOneWay && !isEqual(sample, listener, token)
      try runOn(sample)
    } catch {
      var failure = ToolFailure()
      failure.phase = "comparison"
      failure.cause = "\(error)"
      failure.guest = .destination
      throw ToolError(
        "the guest has arrived here, and whether anything is missing is not known: \(error)", nil,
        failure)
    }
    guard !differs else { throw ExitCode(ToolStatus.different.rawValue) }
  }

  /// A guest, from the first peer that says a hello that fits.
  private func receive(
    _ sample: SampleMachine, _ listener: MigrationListener
  ) throws -> (token: UInt64, isOneWay: Bool) {
    let destination = MigrationDestination(
      machine: sample, memory: sample.ram, regions: sample.ram.ramRegions,
      devices: sample.devices.map(\.migratable), clock: Clock.nanoseconds)
    let stream = try StreamReception(command: command, tls: tls)
      .guest(into: destination, from: listener)
    let report = destination.report
    command.say(
      "arrived: \(report.roundCount) rounds, \(ByteCount.text(report.streamBytes)), "
        + "guest started in \(ByteCount.duration(report.startNanoseconds))")
    return (report.token, !stream.isBidirectional)
  }

  /// Nil for a stranger.
  private func asking(
    _ sample: SampleMachine, _ socket: FileDescriptorChannel, _ token: UInt64
  ) -> (any ByteChannel)? {
    let deadline = Deadline(milliseconds: Self.askingMilliseconds, socket)
    defer { deadline.meet() }
    do throws(ChannelError) {
      var channel: any ByteChannel = socket
      if let tls { channel = try TLSChannel(accepting: socket, tls) }
      return SampleVerification.isAsked(of: sample, over: channel, token: token) ? channel : nil
    } catch {
      return nil
    }
  }

  /// Milliseconds in which whoever connects for the comparison says so.
  private static let askingMilliseconds = 5000

  private func isEqual(
    _ sample: SampleMachine, _ listener: MigrationListener, _ token: UInt64
  ) throws -> Bool {
    let timeout = command.machine.timeoutMilliseconds
    let end = Clock.nanoseconds() &+ UInt64(timeout) &* 1_000_000
    while true {
      let now = Clock.nanoseconds()
      guard now < end else {
        throw ToolError("the source did not ask for the comparison in \(timeout / 1000) seconds")
      }
      let channel = try listener.accept(
        waitMilliseconds: Int((end - now) / 1_000_000) + 1, timeoutMilliseconds: timeout)
      guard let channel = asking(sample, channel, token) else {
        Terminal.error("smudge: a stranger connected instead of the source, and was sent away")
        continue
      }
      let verdict = try SampleVerification.answer(sample, over: channel)
      command.say("\(verdict.pagesDifferent) of \(verdict.pagesCompared) pages differ")
      return verdict.isEqual
    }
  }

  /// What arrived is worth something only if it goes on.
  private func runOn(_ sample: SampleMachine) throws {
    let before = sample.devices.reduce(0) { $0 + $1.writeCount }
    try sample.start()
    usleep(100_000)
    sample.shutDown()
    let after = sample.devices.reduce(0) { $0 + $1.writeCount }
    command.say("the guest ran on here: \(after - before) DMA writes in 100 ms")
  }
}
