#if canImport(Simulation)
  import DeviceMigration
  import Dispatch
  import Foundation
  import MigrationTransport
  import Simulation

  /// The predicted downtime against the real one, over sample migrations of 256 MiB with 1 to 8
  /// devices and limits of 20 to 300 ms: within this machine, and over a link of 100 MiB in a
  /// second. Plain numbers: errors in percent of what it took, and promises that were not kept.
  enum PredictionBench {
    private static let linkBytesPerSecond = 100 << 20

    private struct Place {
      let name: String
      let count: Int
      let isLink: Bool
      let targets: (median: Double, ninthDecile: Double)
    }

    private static let places = [
      Place(
        name: "prediction, 48 sample migrations in one machine", count: 48, isLink: false,
        targets: (15, 50)),
      Place(
        name: "prediction, 8 sample migrations over 100 MiB/s", count: 8, isLink: true,
        targets: (5, 15)),
    ]

    static var sections: [Section] { places.map(section) }

    private static func section(_ place: Place) -> Section {
      func row(_ what: String, _ target: Double, _ unit: String = "percent") -> Row {
        Row(name: "\(place.name): \(what)", peer: unit, target: target, isPlainNumber: true)
      }
      let median = row("median error", place.targets.median)
      let decile = row("ninth decile", place.targets.ninthDecile)
      let broken = row("over the promised limit", 0, "migrations")
      return Section(name: "prediction", rows: [median, decile, broken]) { recorder, effort in
        var errors: [Double] = []
        var brokenCount = 0
        for seed in 1...effort.size(place.count, quick: 1) {
          let report = try migrate(UInt64(seed), isLink: place.isLink, effort)
          guard let predicted = report.prediction else { continue }
          let actual = Double(report.downtime.totalNanoseconds)
          errors.append(abs(Double(predicted.totalNanoseconds) - actual) / actual * 100)
          let isPromised = report.stopReason == .stop
          if isPromised, report.overLimitNanoseconds != nil { brokenCount += 1 }
        }
        errors.sort()
        recorder.record(median.name, value: errors[errors.count / 2])
        recorder.record(decile.name, value: errors[errors.count * 9 / 10])
        recorder.record(broken.name, value: Double(brokenCount))
      }
    }

    private static func migrate(
      _ seed: UInt64, isLink: Bool, _ effort: Effort
    ) throws -> MigrationReport {
      var options = SampleOptions()
      options.memoryByteCount = UInt64(effort.size(256, quick: 16)) << 20
      options.deviceCount = 1 + Int(seed % 8)
      options.seed = seed
      // What a link of 100 MiB/s can follow.
      if isLink {
        options.vcpuPagesPerSecond = 2000
        options.deviceWritesPerSecond = 400
        options.iommuEventsPerSecond = 800
      }
      let machine = try SampleMachine(options)
      let (near, far) = try isLink ? PacedLink.make(linkBytesPerSecond) : plainLink()
      let done = DispatchSemaphore(value: 0)
      let atBoth = options
      Thread.detachNewThread {
        defer { done.signal() }
        // What goes wrong here goes wrong at the source as well.
        guard let arrival = try? SampleMachine(atBoth) else { return far.shutDown() }
        let destination = MigrationDestination(
          machine: arrival, memory: arrival.ram, regions: arrival.ram.ramRegions,
          devices: arrival.devices.map(\.migratable), clock: nanoseconds)
        _ = try? destination.receive(from: far)
      }
      defer {
        near.shutDown()
        done.wait()
        machine.shutDown()
      }
      try machine.boot()
      try machine.start()
      usleep(100_000)
      var policy = MigrationPolicy()
      policy.downtimeLimitNanoseconds = (20 + seed &* 37 % 281) &* 1_000_000
      policy.guestUsesPeerToPeer = false
      policy.roundCountMin = 3
      policy.notConverging = .stopAnyway(afterRounds: 30)
      let observer = QueueOpener(machine)
      let source = MigrationSource(
        machine: machine, tracking: machine.tracker, memory: machine.ram,
        devices: machine.migratingDevices, policy: policy, clock: nanoseconds, observer: observer)
      return try withExtendedLifetime(observer) { try source.run(over: near) }
    }

    private static func plainLink() throws -> (any ByteChannel, any ByteChannel) {
      let (near, far) = try FileDescriptorChannel.pair(timeoutMilliseconds: 30_000)
      return (near, far)
    }

    private static func nanoseconds() -> UInt64 { UInt64(Clock.wallSeconds() * 1e9) }
  }

  /// The guest opens its second queues after the first round.
  private final class QueueOpener: MigrationObserver {
    private let machine: SampleMachine
    init(_ machine: SampleMachine) { self.machine = machine }

    func migration(_ event: MigrationEvent) {
      guard case .roundEnded(let round, _) = event, round.number == 1 else { return }
      // A refusal is the guest's: it does without.
      try? machine.openQueues()
    }
  }

  /// Two sockets and a thread for each direction between them; what goes to the destination goes at
  /// its pace.
  private enum PacedLink {
    static func make(_ bytesPerSecond: Int) throws -> (any ByteChannel, any ByteChannel) {
      let (near, nearRelay) = try FileDescriptorChannel.pair(timeoutMilliseconds: 60_000)
      let (farRelay, far) = try FileDescriptorChannel.pair(timeoutMilliseconds: 60_000)
      relay(from: nearRelay, to: farRelay, bytesPerSecond: Double(bytesPerSecond))
      relay(from: farRelay, to: nearRelay, bytesPerSecond: nil)
      return (near, far)
    }

    private static func relay(
      from source: FileDescriptorChannel, to target: FileDescriptorChannel, bytesPerSecond: Double?
    ) {
      Thread.detachNewThread {
        let words = Words(count: 8192)
        // When what has been passed on so far was due.
        var due = Clock.wallSeconds()
        while true {
          let count = try? words.withMutableBytes(0, 65_536) { (bytes) throws(ChannelError) in
            try source.read(into: &bytes)
          }
          guard let count, count > 0 else { break }
          if let bytesPerSecond {
            due = max(due, Clock.wallSeconds()) + Double(count) / bytesPerSecond
            let wait = due - Clock.wallSeconds()
            if wait > 0 { usleep(UInt32(wait * 1e6)) }
          }
          let sent: Void? = try? words.withBytes(0, count) { (bytes) throws(ChannelError) in
            try target.write(bytes)
          }
          if sent == nil { break }
        }
        source.shutDown()
        target.shutDown()
      }
    }
  }
#endif
