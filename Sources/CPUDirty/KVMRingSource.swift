public import Addressing
public import GuestDirtyLog
import Locking

/// What the vCPUs of a VM wrote, from their dirty rings.
///
/// Invariants:
/// 1. A page a vCPU wrote between two collections is in the second one, when `flush` made each vCPU
///    leave KVM_RUN: until then the processor itself may keep some.
/// 2. A page is protected again (KVM_RESET_DIRTY_RINGS) before it is marked in the log, so that no
///    write falls between a reader's copy and the protection.
/// 3. Entries are taken in order, none is skipped, each once.
/// 4. A collection that fails has marked all it took. An entry that lies in no slot is a failure:
///    the page it means is not known.
/// 5. A reset may protect less than was taken: since 2025 it ends at a pending signal. Until one is
///    known to have protected an entry's page, a write to it makes no entry, so the entry is kept
///    and marked again by each collection, the last one the first whose reset is complete.
/// 6. A ring found full to its last entry was overrun: KVM keeps some in reserve, but a vCPU whose
///    instructions it emulates does not leave in time, and older entries are written over. KVM's
///    place in the ring and ours then differ for good, so from there on everything fails.
///
/// A vCPU whose ring is full leaves KVM_RUN with KVM_EXIT_DIRTY_RING_FULL until somebody collects;
/// the VMM then does, into the same log.
///
/// States: as ``KVMBitmapSource``.
public final class KVMRingSource: CPUDirtySource {
  public let name = "KVM dirty ring"
  private let ring: KVMRing
  private let vcpus: [Int32]
  private let flush: @Sendable () -> Void
  private let machine: KVMMachine
  private let state = Mutex<State?>(nil)

  private struct Mapped {
    let address: UInt64
    var position: UInt32
  }

  private struct State {
    var rings: [Mapped]
    var taken: Taken
  }

  private struct Taken {
    /// All since a reset was complete last: which of them a short one protected, nobody says.
    var entries: [KVMRingEntry] = []
    /// Not reported as reset.
    var unresetCount = 0
  }

  /// What a `stop` leaves: KVM keeps its own place in the rings for as long as the vCPUs live, and
  /// counts in a later reset what was not reset before.
  private struct Left {
    var positions: [UInt32]
    var taken = Taken()
  }

  /// Resets in a row that protect nothing, or fail, before a collection gives up.
  static let idleResetCountMax = 64

  private let left: Mutex<Left>
  /// By vCPU descriptor, the ring that was overrun.
  private let overrun = Mutex<Int32?>(nil)

  /// - Parameters:
  ///   - vcpus: descriptors, that stay open as long as this is used; nobody else takes from their
  ///     rings.
  ///   - flush: returns when each vCPU has left KVM_RUN once since it was called.
  public init(
    vm: Int32, ring: KVMRing, vcpus: [Int32], slots: [KVMSlot], pageSize: PageSize = .fourKiB,
    calls: any KVMCalls = LinuxKVMCalls(), flush: @escaping @Sendable () -> Void
  ) {
    self.ring = ring
    self.vcpus = vcpus
    self.flush = flush
    machine = KVMMachine(name: name, vm: vm, slots: slots, pageSize: pageSize, calls: calls)
    left = Mutex(Left(positions: [UInt32](repeating: 0, count: vcpus.count)))
  }

  deinit { stop() }

  /// Starts from clean, but for pages of an earlier time whose reset failed: they are reported.
  /// Does nothing when started already.
  public func start() throws(CPUDirtyError) {
    try state.withLock { (state: inout State?) throws(CPUDirtyError) in
      if state != nil { return }
      try checkOverrun()
      var started = State(rings: try mapRings(), taken: left.withLock { $0.taken })
      do throws(CPUDirtyError) {
        try machine.enableLogging()
      } catch {
        unmap(started)
        throw error
      }
      do throws(CPUDirtyError) {
        try take(&started)
      } catch {
        machine.disableLogging()
        unmap(started)
        throw error
      }
      // An error here is no reason to give up: what a failed reset leaves unprotected stays in
      // `taken`, and the first collection marks it.
      if (try? reset(&started.taken)) != nil { started.taken.entries.removeAll() }
      state = started
    }
  }

  private func mapRings() throws(CPUDirtyError) -> [Mapped] {
    var rings: [Mapped] = []
    let positions = left.withLock { $0.positions }
    for (vcpu, position) in zip(vcpus, positions) {
      let address = machine.calls.mapRing(vcpu, byteCount: ring.byteCount)
      guard address >= 0 else {
        unmapRings(rings)
        throw machine.failed(KVMOperation.mapRing, address)
      }
      rings.append(Mapped(address: UInt64(address), position: position))
    }
    return rings
  }

  /// Keeps what the next start must know.
  private func unmap(_ state: State) {
    left.withLock { left in
      for index in state.rings.indices { left.positions[index] = state.rings[index].position }
      left.taken = state.taken
    }
    unmapRings(state.rings)
  }

  private func unmapRings(_ rings: [Mapped]) {
    for mapped in rings { machine.calls.unmapRing(mapped.address, byteCount: ring.byteCount) }
  }

  public func stop() {
    state.withLock { state in
      guard let old = state else { return }
      state = nil
      machine.disableLogging()
      unmap(old)
    }
  }

  public func collect(into log: GuestDirtyLog) throws(CPUDirtyError) -> UInt64 {
    try state.withLock { (state: inout State?) throws(CPUDirtyError) in
      guard var current = state.take() else { throw machine.notStarted }
      defer { state = current }
      flush()
      var refusal: CPUDirtyError?
      do throws(CPUDirtyError) {
        try take(&current)
        try reset(&current.taken)
      } catch {
        refusal = error
      }
      var pages: UInt64 = 0
      for entry in current.taken.entries {
        guard let page = page(of: entry) else {
          refusal =
            refusal
            ?? machine.failed(
              "collect", 0, nil,
              "page \(entry.page) of slot \(entry.slot) was written, which lies in no slot it knows"
            )
          continue
        }
        pages &+= log.mark(page, by: .vcpu).dirtyPages
      }
      if current.taken.unresetCount == 0 {
        current.taken.entries.removeAll(keepingCapacity: true)
      }
      if let refusal { throw refusal }
      return pages
    }
  }

  /// Takes all entries.
  private func take(_ state: inout State) throws(CPUDirtyError) {
    for index in state.rings.indices {
      let before = state.taken.entries.count
      machine.calls.takeEntries(
        state.rings[index].address, entryCount: ring.entryCount,
        position: &state.rings[index].position, into: &state.taken.entries)
      let count = state.taken.entries.count - before
      state.taken.unresetCount += count
      if count >= Int(ring.entryCount) { overrun.withLock { $0 = vcpus[index] } }
    }
    try checkOverrun()
  }

  /// Protects the pages of all entries again.
  private func reset(_ taken: inout Taken) throws(CPUDirtyError) {
    var idleCount = 0
    while taken.unresetCount > 0 {
      let result = machine.calls.resetDirtyRings(machine.vm)
      if result > 0 {
        // A signal ends a reset early.
        taken.unresetCount -= min(Int(result), taken.unresetCount)
        idleCount = 0
        continue
      }
      idleCount += 1
      guard idleCount < Self.idleResetCountMax else {
        throw machine.failed(
          KVMOperation.reset, Int64(result), nil,
          "\(taken.unresetCount) of the entries taken were not reset; their pages are marked, and"
            + " again by each collection until they are")
      }
    }
  }

  private func checkOverrun() throws(CPUDirtyError) {
    guard let vcpu = overrun.withLock({ $0 }) else { return }
    throw machine.failed(
      "collect", 0, nil,
      "the ring of vCPU descriptor \(vcpu), of \(ring.entryCount) entries, was overrun; what it"
        + " held is lost and it is of no use any more, so everything counts as written; make larger"
        + " rings, or use KVMBitmapSource")
  }

  private func page(of entry: KVMRingEntry) -> GPARange? {
    guard let slot = machine.slots.first(where: { $0.number == entry.slot }),
      entry.page < slot.gpa.pageCount(machine.pageSize)
    else { return nil }
    let first = GPA(slot.gpa.first.rawValue &+ entry.page &<< machine.pageSize.shift)
    return AddressRange(first: first, last: first.lastOfPage(machine.pageSize))
  }
}
