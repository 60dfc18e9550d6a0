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
/// 5. A ring found full to its last entry was overrun: KVM keeps some in reserve, but a vCPU whose
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
    /// Taken, and not reported as reset.
    var unreset = 0
    var entries: [KVMRingEntry] = []
  }

  /// Where the rings were left by a `stop`: KVM keeps its own place for as long as the vCPUs live.
  private let positions: Mutex<[UInt32]>
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
    positions = Mutex([UInt32](repeating: 0, count: vcpus.count))
  }

  deinit { stop() }

  /// Starts from clean. Does nothing when started already.
  public func start() throws(CPUDirtyError) {
    try state.withLock { (state: inout State?) throws(CPUDirtyError) in
      if state != nil { return }
      try checkOverrun()
      var started = State(rings: try mapRings())
      do throws(CPUDirtyError) {
        try machine.enableLogging()
      } catch {
        unmap(started.rings)
        throw error
      }
      do throws(CPUDirtyError) {
        try take(&started)
      } catch {
        machine.disableLogging()
        unmap(started.rings)
        throw error
      }
      state = started
    }
  }

  private func mapRings() throws(CPUDirtyError) -> [Mapped] {
    var rings: [Mapped] = []
    let positions = positions.withLock { $0 }
    for (vcpu, position) in zip(vcpus, positions) {
      let address = machine.calls.mapRing(vcpu, byteCount: ring.byteCount)
      guard address >= 0 else {
        unmap(rings)
        throw machine.failed(KVMOperation.mapRing, address)
      }
      rings.append(Mapped(address: UInt64(address), position: position))
    }
    return rings
  }

  private func unmap(_ rings: [Mapped]) {
    positions.withLock { positions in
      for index in rings.indices { positions[index] = rings[index].position }
    }
    for mapped in rings { machine.calls.unmapRing(mapped.address, byteCount: ring.byteCount) }
  }

  public func stop() {
    state.withLock { state in
      guard let old = state else { return }
      state = nil
      machine.disableLogging()
      unmap(old.rings)
    }
  }

  public func collect(into log: GuestDirtyLog) throws(CPUDirtyError) -> UInt64 {
    try state.withLock { (state: inout State?) throws(CPUDirtyError) in
      guard var current = state.take() else { throw machine.notStarted }
      defer { state = current }
      flush()
      var refusal: CPUDirtyError?
      do throws(CPUDirtyError) { try take(&current) } catch { refusal = error }
      var pages: UInt64 = 0
      for entry in current.entries {
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
      if let refusal { throw refusal }
      return pages
    }
  }

  /// Takes all entries, and protects their pages again.
  private func take(_ state: inout State) throws(CPUDirtyError) {
    state.entries.removeAll(keepingCapacity: true)
    for index in state.rings.indices {
      let before = state.entries.count
      machine.calls.takeEntries(
        state.rings[index].address, entryCount: ring.entryCount,
        position: &state.rings[index].position, into: &state.entries)
      if state.entries.count - before >= Int(ring.entryCount) {
        overrun.withLock { $0 = vcpus[index] }
      }
    }
    state.unreset += state.entries.count
    try checkOverrun()
    // A signal ends a reset early.
    while state.unreset > 0 {
      let result = machine.calls.resetDirtyRings(machine.vm)
      guard result >= 0 else { throw machine.failed(KVMOperation.reset, Int64(result)) }
      guard result > 0 else {
        let left = state.unreset
        state.unreset = 0
        throw machine.failed(
          KVMOperation.reset, 0, nil, "\(left) of the entries taken were not reset")
      }
      state.unreset -= min(Int(result), state.unreset)
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
