import Addressing
import DeviceMigration
import Foundation
import GuestDirtyLog
import MigrationTransport
import Locking
import TestSupport
import Testing

/// A whole migration between two threads over real descriptors. The front-end's own tests drive
/// both sides from one thread; here the channel is what is tried.
@Suite struct SocketMigrationTests {
  final class Tracking: GuestDirtyTracking {
    let log = GuestDirtyLog()
    let migrationBlockers: [String] = []
    let heldBackPageCount: UInt64 = 0
    func startTracking() -> SyncReport { SyncReport() }
    func sync(isFinal: Bool) -> SyncReport { SyncReport(isFinal: isFinal) }
    func stopTracking() -> SyncReport { SyncReport() }
  }

  final class Machine: MigratingMachine {
    var isRunning: Bool
    init(isRunning: Bool) { self.isRunning = isRunning }
    func stopVCPUs() throws(MachineError) { isRunning = false }
    func resumeVCPUs() throws(MachineError) { isRunning = true }
    func saveState() throws(MachineError) -> [UInt8] { [1, 2, 3] }
    func restoreState(_ bytes: [UInt8]) throws(MachineError) {
      if bytes != [1, 2, 3] { throw MachineError(operation: "restore", detail: "\(bytes)") }
    }
  }

  private func memories() -> (HeapMemory, HeapMemory) {
    var random = SeededGenerator(seed: 61)
    let here = HeapMemory(byteCount: 6 << 20)
    let there = HeapMemory(byteCount: 6 << 20)
    here.fill { random.once(in: 3) ? random.next() : 0 }
    there.fill { 7 }
    return (here, there)
  }

  private func source(_ memory: HeapMemory) throws -> MigrationSource {
    let tracking = Tracking()
    try tracking.log.addRegion(memory.region)
    return MigrationSource(
      machine: Machine(isRunning: true), tracking: tracking, memory: memory, devices: [],
      clock: { DispatchTime.now().uptimeNanoseconds })
  }

  /// Receives on another thread.
  /// - Returns: waits for it: nil when it went well.
  private func receive(
    _ memory: HeapMemory, from channel: FileDescriptorChannel
  ) -> @Sendable () -> String? {
    let done = DispatchSemaphore(value: 0)
    let result = Mutex<String?>(nil)
    let box = Box(result: result)
    Thread.detachNewThread {
      let destination = MigrationDestination(
        machine: Machine(isRunning: false), memory: memory, regions: [memory.region], devices: [])
      do throws(MigrationError) {
        _ = try destination.receive(from: channel)
      } catch {
        box.set("\(error)")
      }
      done.signal()
    }
    return {
      done.wait()
      return box.get()
    }
  }

  private final class Box: Sendable {
    private let result: Mutex<String?>
    init(result: consuming Mutex<String?>) { self.result = result }
    func set(_ text: String) { result.withLock { $0 = text } }
    func get() -> String? { result.withLock { $0 } }
  }

  @Test func `memory arrives over a socket pair`() throws {
    let (here, there) = memories()
    let (left, right) = try FileDescriptorChannel.pair(timeoutMilliseconds: 20_000)
    let outcome = receive(there, from: right)
    let report = try source(here).run(over: left)
    #expect(outcome() == nil)
    #expect(here.isSame(there))
    #expect(report.totals.zeroPages + report.totals.pages == 1536)
    #expect(report.prediction?.slowest.bandwidthBytesPerSecond ?? 0 > 0)
  }

  @Test func `memory arrives over a pipe, one way`() throws {
    let (here, there) = memories()
    let (reading, writing) = Descriptors.pipe()
    let right = try FileDescriptorChannel(
      owning: reading, name: "in", timeoutMilliseconds: 20_000)
    let left = try FileDescriptorChannel(
      owning: writing, name: "out", timeoutMilliseconds: 20_000)
    let outcome = receive(there, from: right)
    _ = try source(here).run(over: left)
    #expect(outcome() == nil)
    #expect(here.isSame(there))
  }

  @Test func `a destination that goes away is an error, and the source runs on`() throws {
    let (here, _) = memories()
    let (left, right) = try FileDescriptorChannel.pair(timeoutMilliseconds: 20_000)
    right.shutDown()
    let source = try source(here)
    let error = #expect(throws: MigrationError.self) { try source.run(over: left) }
    #expect(error?.phase == .begin && error?.aftermath.vcpusResumed == true)
  }

  @Test func `a destination with other memory says why`() throws {
    let (here, _) = memories()
    let (left, right) = try FileDescriptorChannel.pair(timeoutMilliseconds: 20_000)
    let outcome = receive(HeapMemory(byteCount: 4096), from: right)
    let source = try source(here)
    let error = #expect(throws: MigrationError.self) { try source.run(over: left) }
    #expect(outcome()?.contains("there is no RAM ram") == true)
    guard case .refused(let reason)? = error?.cause else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(reason.contains("there is no RAM ram"))
  }
}
