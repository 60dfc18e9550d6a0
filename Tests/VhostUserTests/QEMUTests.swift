import Addressing
import Dispatch
import Foundation
import Glibc
import Locking
import Testing

@testable import VhostUser

/// With the QEMU of this machine, where there is one: its firmware starts the device, and a
/// migration into a file is looked at. Not under a sanitizer: what runs there is QEMU and the
/// Foundation that starts it, and the other suites have all of the companion.
@Suite(.serialized, .enabled(if: QEMUProcess.isInstalled && !QEMUProcess.isSanitized))
struct QEMUTests {
  private static let marked: GPA = GPA(200 << 20)
  private static let unmarked: GPA = GPA(201 << 20)

  /// Writes into guest memory as a device would, and marks one of two pages while the VM stops.
  private final class Device: CompanionDelegate {
    let started = DispatchSemaphore(value: 0)
    let heard = Mutex<[String]>([])
    let companion = Mutex<Companion?>(nil)
    let refuses: Bool
    init(refuses: Bool) { self.refuses = refuses }

    private func note(_ text: String) { heard.withLock { $0.append(text) } }

    func connected() { note("connected") }
    func trackingStarts(isLate: Bool) { note(isLate ? "tracking, late" : "tracking") }
    func logReplaced() { note("log replaced") }
    func trackingEnds() { note("tracking ends") }
    func runsAgain() { note("runs") }
    func disconnected(_ reason: VhostUserError) { note("disconnected") }
    func ramChanged() {
      note("ram")
      started.signal()
    }

    func stop() throws(VhostUserError) {
      guard let companion = companion.withLock({ $0 }) else { return }
      let isTracking = companion.status.isTracking
      note(isTracking ? "stop, tracking" : "stop")
      guard isTracking else { return }
      write("written and marked by the device", at: marked, companion.ram)
      write("written by it and never marked..", at: unmarked, companion.ram)
      if refuses { throw .stopRefused("the test wants it so") }
      try companion.log.mark(GPARange(first: marked, last: marked))
    }

    private func write(_ text: String, at address: GPA, _ ram: RAMTable) {
      guard let region = ram.region(at: address), let descriptor = region.descriptor else {
        note("no RAM at \(address)")
        return
      }
      let offset = region.fileOffset + (address.rawValue - region.gpa.first.rawValue)
      note("wrote \(Descriptors.write(text, to: descriptor.number, at: offset))")
    }
  }

  private struct Outcome {
    var heard: [String]
    var migration: String
    var status: String
    var stream: Data
    var trace: String
  }

  /// Boots, lets the firmware start the device, migrates into a file.
  private static func migrate(_ name: String, refuses: Bool) throws -> Outcome {
    let path = Descriptors.temporaryPath(name)
    let file = Descriptors.temporaryPath("\(name)-stream")
    defer { Descriptors.remove(file) }
    let device = Device(refuses: refuses)
    let companion = try Companion(path: path, delegate: device)
    device.companion.withLock { $0 = companion }
    defer {
      device.companion.withLock { $0 = nil }
      companion.end()
    }
    let qemu = try QEMUProcess(companion: path, megabytes: 256)
    _ = qemu.line(with: "\"QMP\"")
    qemu.execute("qmp_capabilities")
    #expect(companion.status.phase == .connected, "\(qemu.transcript)")
    qemu.execute(
      "migrate-set-capabilities",
      "{\"capabilities\": [{\"capability\": \"events\", \"state\": true}]}")
    qemu.execute("cont")
    #expect(device.started.wait(timeout: .now() + 300) == .success, "the firmware starts it")
    qemu.execute("migrate", "{\"uri\": \"exec:cat > \(file)\"}")
    _ = qemu.line(with: "\"status\": \"completed\"", "\"status\": \"failed\"")
    let migration = qemu.execute("query-migrate") ?? "gone"
    let status = qemu.execute("query-status") ?? "gone"
    let trace = qemu.transcript.joined(separator: "\n")
    let complaints = qemu.complaints()
    let stream = (try? Data(contentsOf: URL(fileURLWithPath: file))) ?? Data()
    return Outcome(
      heard: device.heard.withLock { $0 }, migration: migration, status: status, stream: stream,
      trace: trace + "\n" + complaints)
  }

  @Test func `QEMU takes the companion, logs by it, and sends what was marked in the stop`() throws
  {
    let outcome = try Self.migrate("real", refuses: false)
    #expect(outcome.migration.contains("completed"), "\(outcome.trace)")
    #expect(outcome.heard.contains("tracking"), "\(outcome.heard) \(outcome.trace)")
    #expect(outcome.heard.contains("stop, tracking"), "\(outcome.heard)")
    let sent = outcome.stream.range(of: Data("written and marked by the device".utf8)) != nil
    let lost = outcome.stream.range(of: Data("written by it and never marked..".utf8)) == nil
    #expect(sent && lost, "\(outcome.heard), \(outcome.stream.count) bytes")
  }

  /// 11.1 fails the migration, 7.2 only complains.
  @Test func `QEMU notices that a stop is refused`() throws {
    let outcome = try Self.migrate("veto", refuses: true)
    #expect(outcome.heard.contains("stop, tracking"), "\(outcome.heard)")
    #expect(outcome.heard.last == "disconnected", "\(outcome.heard)")
    let isNoticed =
      outcome.migration.contains("failed") || outcome.trace.contains("Input/output error")
    #expect(isNoticed, "\(outcome.trace)")
  }
}
