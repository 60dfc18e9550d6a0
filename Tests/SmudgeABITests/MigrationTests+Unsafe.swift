import CSmudge
import Foundation
import Glibc
import Locking
import SmudgeABI
import Testing

/// The front-end by smudge.h: two trackers of one process and a socket pair between them.
///
/// Unsafe because that is C. Sound because the memory and the objects handed over outlive both
/// threads, which are waited for.
@Suite struct CMigrationTests {
  private static let byteCount = 4 << 20

  /// One side: its RAM, its tracker, and the VMM that the callbacks speak to.
  @safe private final class Side: @unchecked Sendable {
    let ram = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 4096)
    var tracker: OpaquePointer?
    let fd: Int32
    /// Held over a write of the guest: a stop returns when none is under way.
    let isRunning: Mutex<Bool>
    var state: [UInt8] = []
    var cancelsAtRound = UInt32.max
    /// The connection ends when the guest runs here, before that is said.
    var isCutAtStart = false
    var rounds = 0

    var runs: Bool { isRunning.withLock { $0 } }

    init(fd: Int32, isRunning: Bool) {
      self.fd = fd
      self.isRunning = Mutex(isRunning)
      unsafe ram.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
      #expect(unsafe smudge_tracker_create(nil, &tracker) == 0)
      unsafe "ram".withCString { name in
        var region = unsafe smudge_ram()
        unsafe region.size = UInt32(MemoryLayout<smudge_ram>.size)
        unsafe region.byte_count = UInt64(byteCount)
        unsafe region.host = ram
        unsafe region.name = name
        #expect(unsafe smudge_region_add(tracker, &region) == 0)
      }
    }

    deinit {
      #expect(unsafe smudge_tracker_destroy(tracker) == 0)
      unsafe ram.deallocate()
      close(fd)
    }

    static func of(_ opaque: UnsafeMutableRawPointer?) -> Side {
      guard let opaque = unsafe opaque else { preconditionFailure("opaque is handed back") }
      return unsafe Unmanaged<Side>.fromOpaque(opaque).takeUnretainedValue()
    }

    /// - Returns: false when vCPUs stand.
    func act(_ body: () -> Void) -> Bool {
      isRunning.withLock { isRunning in
        if isRunning { body() }
        return isRunning
      }
    }

    /// What the guest does: a page after another, told as a vCPU's.
    func write(_ number: Int) {
      let offset = number * 7 % (CMigrationTests.byteCount >> 12) << 12
      unsafe ram.storeBytes(
        of: UInt8(truncatingIfNeeded: number), toByteOffset: offset, as: UInt8.self)
      #expect(unsafe smudge_vcpu_wrote(tracker, UInt64(offset), 1) == 0)
    }

    func run(
      _ body: (OpaquePointer?, UnsafePointer<smudge_migration_params>) -> Int32
    ) -> Int32 {
      let opaque = unsafe Unmanaged.passUnretained(self).toOpaque()
      var channel = unsafe smudge_channel()
      unsafe channel.size = UInt32(MemoryLayout<smudge_channel>.size)
      unsafe channel.opaque = opaque
      unsafe channel.write = { bytes, byteCount, opaque in
        unsafe Side.of(opaque).writeAll(bytes, Int(byteCount))
      }
      unsafe channel.read = { bytes, byteCount, opaque in
        Int64(unsafe read(Side.of(opaque).fd, bytes, Int(byteCount)))
      }
      unsafe channel.shut_down = { opaque in
        _ = unsafe shutdown(Side.of(opaque).fd, Int32(SHUT_RDWR))
      }
      var machine = unsafe machineOf(opaque)
      var params = unsafe smudge_migration_params()
      unsafe params.size = UInt32(MemoryLayout<smudge_migration_params>.size)
      unsafe params.on_limit = UInt32(SMUDGE_ON_LIMIT_STOP_ANYWAY)
      unsafe params.round_count_max = 3
      unsafe params.opaque = opaque
      unsafe params.round_ended = { round, opaque in
        let side = unsafe Side.of(opaque)
        side.rounds += 1
        return unsafe round.map { unsafe $0.pointee.number >= side.cancelsAtRound } == true ? 1 : 0
      }
      return unsafe withUnsafePointer(to: &channel) { channel in
        unsafe withUnsafePointer(to: &machine) { machine in
          unsafe params.channel = channel
          unsafe params.machine = machine
          return unsafe body(tracker, &params)
        }
      }
    }

    private func machineOf(_ opaque: UnsafeMutableRawPointer) -> smudge_machine {
      var machine = unsafe smudge_machine()
      unsafe machine.size = UInt32(MemoryLayout<smudge_machine>.size)
      unsafe machine.is_running = runs ? 1 : 0
      unsafe machine.opaque = opaque
      unsafe machine.stop_vcpus = { opaque in
        unsafe Side.of(opaque).isRunning.withLock { $0 = false }
        return 0
      }
      unsafe machine.resume_vcpus = { opaque in
        unsafe Side.of(opaque).isRunning.withLock { $0 = true }
        return 0
      }
      unsafe machine.save_state = { bytes, byteCount, opaque in
        let state = [UInt8](repeating: 7, count: 100_000)
        if byteCount >= 100_000 {
          unsafe bytes?.copyMemory(from: state, byteCount: state.count)
        }
        return 100_000
      }
      unsafe machine.restore_state = { bytes, byteCount, opaque in
        unsafe Side.of(opaque).state = Array(
          UnsafeRawBufferPointer(start: bytes, count: Int(byteCount)))
        return 0
      }
      return unsafe machine
    }

    private func writeAll(_ bytes: UnsafeRawPointer?, _ byteCount: Int) -> Int32 {
      if isCutAtStart, runs {
        shutdown(fd, Int32(SHUT_RDWR))
        return -EPIPE
      }
      var done = 0
      while done < byteCount {
        let count = unsafe send(
          fd, bytes.map { unsafe $0 + done }, byteCount - done, Int32(MSG_NOSIGNAL))
        if count <= 0 { return -EPIPE }
        done += count
      }
      return 0
    }
  }

  private static func sides() -> (Side, Side) {
    var ends: [Int32] = [0, 0]
    #expect(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    return (Side(fd: ends[0], isRunning: true), Side(fd: ends[1], isRunning: false))
  }

  /// - Returns: what both calls returned.
  private static func migrate(_ source: Side, _ destination: Side) -> (Int32, Int32) {
    let received = DispatchSemaphore(value: 0)
    let result = Mutex<Int32>(1)
    Thread.detachNewThread {
      let code = unsafe destination.run { tracker, params in
        unsafe smudge_receive(tracker, params, nil)
      }
      result.withLock { $0 = code }
      received.signal()
    }
    let guest = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      var page = 0
      // A guest writes until its vCPUs are stopped.
      while page < 100_000, source.act({ source.write(page) }) { page += 1 }
      guest.signal()
    }
    let sent = unsafe source.run { tracker, params in unsafe smudge_migrate(tracker, params, nil) }
    source.isRunning.withLock { $0 = false }
    guest.wait()
    received.wait()
    return (sent, result.withLock { $0 })
  }

  @Test func `a guest that writes is moved whole, with its state`() {
    let (source, destination) = Self.sides()
    let (sent, received) = Self.migrate(source, destination)
    #expect(sent == 0 && received == 0)
    #expect(destination.state == [UInt8](repeating: 7, count: 100_000))
    #expect(destination.runs)
    #expect(source.rounds > 0)
    #expect(unsafe memcmp(source.ram, destination.ram, Self.byteCount) == 0)
  }

  @Test func `a migration that is cancelled in a round leaves the guest here`() {
    let (source, destination) = Self.sides()
    source.cancelsAtRound = 1
    let (sent, received) = Self.migrate(source, destination)
    #expect(sent == Int32(SMUDGE_ECANCELED))
    #expect(received < 0)
    #expect(!destination.runs)
    #expect(unsafe smudge_migration_resolve(source.tracker, 1) == Int32(SMUDGE_ENOENT))
  }

  @Test(arguments: [true, false])
  func `a start that nobody answers leaves it to the caller where the guest runs`(
    runsThere: Bool
  ) {
    let (source, destination) = Self.sides()
    destination.isCutAtStart = true
    let (sent, received) = Self.migrate(source, destination)
    // It runs there: the other side says so to its own caller.
    #expect(sent == Int32(SMUDGE_ENOTUNIQ) && received == 0)
    #expect(unsafe String(cString: smudge_last_error()).contains("smudge_migrate"))
    let again = unsafe source.run { tracker, params in
      unsafe smudge_migrate(tracker, params, nil)
    }
    #expect(again == Int32(SMUDGE_EBUSY))
    #expect(!source.runs)
    #expect(unsafe smudge_migration_resolve(source.tracker, runsThere ? 1 : 0) == 0)
    #expect(source.runs == !runsThere)
    #expect(unsafe smudge_migration_resolve(source.tracker, 1) == Int32(SMUDGE_ENOENT))
  }

  @Test func `what makes no sense is refused by name, and the guest stays`() {
    let (source, destination) = Self.sides()
    #expect(unsafe smudge_migrate(source.tracker, nil, nil) == Int32(SMUDGE_EINVAL))
    #expect(unsafe smudge_receive(destination.tracker, nil, nil) == Int32(SMUDGE_EINVAL))
    #expect(source.runs && !destination.runs)
  }

  @Test func `RAM without a host address cannot be sent, and says so`() {
    let (source, _) = Self.sides()
    unsafe "rom".withCString { name in
      var region = unsafe smudge_ram()
      unsafe region.size = UInt32(MemoryLayout<smudge_ram>.size)
      unsafe region.gpa = 1 << 32
      unsafe region.byte_count = 4096
      unsafe region.name = name
      #expect(unsafe smudge_region_add(source.tracker, &region) == 0)
    }
    let result = unsafe source.run { tracker, params in unsafe smudge_migrate(tracker, params, nil)
    }
    #expect(result == Int32(SMUDGE_EFAULT))
    #expect(source.runs)
  }
}
