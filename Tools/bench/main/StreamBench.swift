#if canImport(MigrationTransport)
  import Addressing
  import DeviceMigration
  import Foundation
  import GuestDirtyLog
  import MigrationTransport

  /// The first pre-copy pass of a guest of 1 GiB of random data, from the front-end through a Unix
  /// socket into the destination's memory, against a plain loop of write and read.
  enum StreamBench {
    static let name = "first pre-copy pass of 1 GiB over a Unix socket"
    static let peer = "plain write/read loop"

    static var section: Section {
      Section(name: "stream", rows: [Row(name: name, peer: peer, target: 1.3)]) {
        recorder, effort in
        let words = effort.size(1 << 27, quick: 1 << 21)
        let source = FlatMemory(Words(count: words))
        let target = FlatMemory(Words(count: words))
        var random = SplitMix(state: 13)
        source.words.fill { _ in random.next() }
        for _ in 0..<effort.repetitions {
          target.words.clear()
          let (near, far) = try FileDescriptorChannel.pair()
          try pass(source, target, near, far) { body in try recorder.timeOnWall(name) { try body() }
          }
          precondition(target.words.isEqual(to: source.words), "everything arrived")
          target.words.clear()
          recorder.timeOnWall(name, peer) { Words.sendPlainly(source.words, to: target.words) }
          precondition(target.words.isEqual(to: source.words), "everything arrived")
        }
      }
    }

    /// - Parameter time: runs and times what it is given.
    static func pass(
      _ source: FlatMemory, _ target: FlatMemory, _ near: any ByteChannel,
      _ far: any ByteChannel, time: (() throws -> Void) throws -> Void
    ) throws {
      let tracking = StillTracking()
      try tracking.log.addRegion(source.region)
      let done = DispatchSemaphore(value: 0)
      Thread.detachNewThread {
        let destination = MigrationDestination(
          machine: StillMachine(), memory: target, regions: [target.region], devices: [])
        // Ends with an error: the source goes away after its first round.
        _ = try? destination.receive(from: far)
        far.shutDown()
        done.signal()
      }
      let front = MigrationSource(
        machine: StillMachine(), tracking: tracking, memory: source, devices: [],
        clock: { UInt64(Clock.wallSeconds() * 1e9) })
      try front.begin(over: near)
      try time {
        _ = try front.round()
        // Closing is what tells the destination to stop; it has read everything by then.
        _ = front.cancel(because: "the pass is over")
        near.shutDown()
        done.wait()
      }
    }
  }

  final class FlatMemory: GuestMemory {
    let words: Words
    let region: RAMRegion

    init(_ words: Words) {
      self.words = words
      region = RAMRegion(
        name: "ram",
        gpa: AddressRange(first: GPA(0), last: GPA(UInt64(words.count) * 8 - 1)))
    }

    func withBytes<R, E: Error>(
      of range: GPARange, _ body: (RawSpan) throws(E) -> R
    ) throws(E) -> R? {
      guard region.gpa.contains(range) else { return nil }
      return try words.withBytes(
        Int(range.first.rawValue), Int(range.lastOffset) + 1, body)
    }

    func withMutableBytes<R, E: Error>(
      of range: GPARange, _ body: (inout MutableRawSpan) throws(E) -> R
    ) throws(E) -> R? {
      guard region.gpa.contains(range) else { return nil }
      return try words.withMutableBytes(
        Int(range.first.rawValue), Int(range.lastOffset) + 1, body)
    }
  }

  /// Nothing runs and nothing gets dirty.
  private final class StillMachine: MigratingMachine {
    let isRunning = true
    func stopVCPUs() throws(MachineError) {}
    func resumeVCPUs() throws(MachineError) {}
    func saveState() throws(MachineError) -> [UInt8] { [] }
    func restoreState(_ bytes: [UInt8]) throws(MachineError) {}
  }

  private final class StillTracking: GuestDirtyTracking {
    let log = GuestDirtyLog()
    var migrationBlockers: [String] { [] }
    func startTracking() -> SyncReport { SyncReport() }
    func sync(isFinal: Bool) -> SyncReport { SyncReport(isFinal: isFinal) }
    func stopTracking() -> SyncReport { SyncReport() }
    var heldBackPageCount: UInt64 { 0 }
  }
#endif
