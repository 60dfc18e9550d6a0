public import Addressing
import CSmudgeLinux
public import GuestDirtyLog
import Locking

/// What the vCPUs of a VM wrote, from KVM's dirty bitmaps (KVM_GET_DIRTY_LOG).
///
/// Terms:
/// - **Automatic**: reading a slot's bitmap clears it and write-protects the slot again.
/// - **Manual** (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2): reading clears nothing; KVM_CLEAR_DIRTY_LOG
///   clears, and protects, what it is given.
///
/// Invariants:
/// 1. A page a vCPU wrote between two collections is in the second one.
/// 2. A page is cleared in KVM before it is marked in the log. Marked first, a reader could copy
///    it, the guest write it again unnoticed since still unprotected, and the clear forget that.
/// 3. What is cleared was read by the same collection; nothing else is.
/// 4. A clear begins at a multiple of 64 pages, and is of a multiple of 64, or ends the slot.
/// 5. A collection that fails has marked all it read, cleared or not.
///
/// KVM does not see what the VMM writes itself, nor devices. The slots stay as they are from
/// `start` to `stop`: to set a slot that is gone would make it anew.
///
/// States:
///
///      idle ──start──> logging ──collect──> logging
///        ^                │
///        └─────stop───────┘     a failed start ends in idle
public final class KVMBitmapSource: CPUDirtySource {
  public enum Clearing: Hashable, Sendable { case automatic, manual }

  public let name: String
  public let clearing: Clearing
  private let machine: KVMMachine
  private let state = Mutex(State())

  private struct State {
    var isLogging = false
    /// Kept from one collection to the next.
    var words: [UInt64] = []
  }

  /// Pages cleared at a time, so that KVM lets vCPUs in between: 1 GiB of 4 KiB pages.
  static let clearWordCountMax = 1 << 12

  /// - Parameters:
  ///   - vm: stays open as long as this is used.
  ///   - clearing: nil for manual where the kernel can, which protects less at a time.
  ///   - pageSize: of the host.
  public init(
    vm: Int32, slots: [KVMSlot], clearing: Clearing? = nil, pageSize: PageSize = .fourKiB,
    calls: any KVMCalls = LinuxKVMCalls()
  ) {
    precondition(
      slots.allSatisfy { $0.gpa.isAligned(to: pageSize) }, "a slot consists of whole pages")
    let known = calls.checkExtension(vm, UInt32(SMUDGE_KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2))
    let canBeManual = known > 0 && known & Int32(SMUDGE_KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0
    self.clearing = clearing ?? (canBeManual ? .manual : .automatic)
    name = "KVM dirty bitmap" + (self.clearing == .manual ? ", cleared by hand" : "")
    machine = KVMMachine(name: name, vm: vm, slots: slots, pageSize: pageSize, calls: calls)
  }

  deinit { stop() }

  /// Starts from clean. Does nothing when started already.
  public func start() throws(CPUDirtyError) {
    try state.withLock { (state: inout State) throws(CPUDirtyError) in
      if state.isLogging { return }
      // Not INITIALLY_SET: all pages would count as written, and a start is from clean. It lasts as
      // long as the VM, and both ways work from here on, so a failure later need not undo it.
      let manual = UInt64(clearing == .manual ? SMUDGE_KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE : 0)
      let capability = UInt32(SMUDGE_KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)
      let enabled = machine.calls.enableCapability(machine.vm, capability, manual)
      // A kernel before 5.2 has the automatic way only.
      if enabled < 0, clearing == .manual {
        throw machine.failed(
          KVMOperation.enable, Int64(enabled), nil,
          "the kernel has no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 (Linux 5.2); clear automatically")
      }
      try machine.enableLogging()
      do throws(CPUDirtyError) {
        // The VMM may have logged before.
        for slot in machine.slots { try take(slot, &state.words) { _ in } }
      } catch {
        machine.disableLogging()
        throw error
      }
      state.isLogging = true
    }
  }

  public func stop() {
    state.withLock { state in
      guard state.isLogging else { return }
      state = State()
      machine.disableLogging()
    }
  }

  public func collect(into log: GuestDirtyLog) throws(CPUDirtyError) -> UInt64 {
    try state.withLock { (state: inout State) throws(CPUDirtyError) in
      guard state.isLogging else { throw machine.notStarted }
      var pages: UInt64 = 0
      for slot in machine.slots {
        try take(slot, &state.words) { words in
          let count = slot.gpa.pageCount(machine.pageSize)
          pages &+=
            log.merge(
              words: words.span, bitCount: count, at: slot.gpa.first, by: .vcpu
            ).dirtyPages
        }
      }
      return pages
    }
  }

  /// Reads, clears, and then calls `body` with what was read.
  private func take(
    _ slot: KVMSlot, _ words: inout [UInt64], _ body: ([UInt64]) -> Void
  ) throws(CPUDirtyError) {
    let pageCount = slot.gpa.pageCount(machine.pageSize)
    let wordCount = Int((pageCount &+ 63) / 64)
    if words.count != wordCount { words = [UInt64](repeating: 0, count: wordCount) }
    let result = machine.calls.getDirtyLog(machine.vm, slot: slot.number, into: &words)
    guard result >= 0 else { throw machine.failed(KVMOperation.get, Int64(result), slot) }
    // Both on a failure of a clear and after all of them.
    defer { body(words) }
    guard clearing == .manual else { return }
    for range in Self.runsToClear(words) {
      let rest = pageCount &- UInt64(range.lowerBound) * 64
      let cleared = machine.calls.clearDirtyLog(
        machine.vm, slot: slot.number, words: words, wordRange: range,
        pageCount: UInt32(min(UInt64(range.count) * 64, rest)))
      guard cleared >= 0 else { throw machine.failed(KVMOperation.clear, Int64(cleared), slot) }
    }
  }

  /// Words with a bit, and no more at a time than `clearWordCountMax`; a short stretch of clean
  /// words costs less than another call.
  static func runsToClear(_ words: [UInt64], gapMax: Int = 64) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    for index in words.indices where words[index] != 0 {
      if let last = runs.last, index - last.upperBound <= gapMax,
        index - last.lowerBound < clearWordCountMax
      {
        runs[runs.count - 1] = last.lowerBound..<(index + 1)
      } else {
        runs.append(index..<(index + 1))
      }
    }
    return runs
  }
}
