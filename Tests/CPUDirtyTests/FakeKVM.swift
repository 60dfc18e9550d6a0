import Addressing
import CPUDirty
import Locking

/// KVM in a few lines: what a guest wrote is dirty until read, cleared or reset. One call may fail.
final class FakeKVM: KVMCalls {
  struct State {
    var logging: Set<UInt32> = []
    var dirty: [UInt32: Set<UInt64>] = [:]
    /// Not write-protected: written again, they are not noticed.
    var unprotected: [UInt32: Set<UInt64>] = [:]
    var isManual = false
    var ring: [KVMRingEntry] = []
    var taken: [KVMRingEntry] = []
    var mappedRings = 0
    var names: [String] = []
    /// Pages of each clear.
    var clears: [(firstPage: UInt64, pageCount: UInt32)] = []
  }

  let state = Mutex(State())
  let slots: [KVMSlot]
  let hasRing: Bool
  private let failing: Int
  private let errno: Int32
  /// Resets at most so many at a time.
  let resetCountMax: Int
  /// How many of that many entries a reset gets to before a signal ends it, or a negative errno.
  let resetPlan: @Sendable (_ takenCount: Int) -> Int32
  /// A reset protects nothing, and says that it did.
  let resetLies: Bool
  /// Called inside of each clear and reset.
  let whileProtecting: @Sendable () -> Void

  init(
    _ slots: [KVMSlot], hasRing: Bool = false, failing: Int = 0, errno: Int32 = 5,
    resetCountMax: Int = .max,
    resetPlan: @escaping @Sendable (_ takenCount: Int) -> Int32 = { Int32($0) },
    resetLies: Bool = false,
    whileProtecting: @escaping @Sendable () -> Void = {}
  ) {
    self.slots = slots
    self.hasRing = hasRing
    self.failing = failing
    self.errno = errno
    self.resetCountMax = resetCountMax
    self.resetPlan = resetPlan
    self.resetLies = resetLies
    self.whileProtecting = whileProtecting
  }

  /// A guest's write: noticed when the page is protected and its slot logs.
  func write(_ page: UInt64, slot: UInt32) {
    state.withLock { state in
      guard state.logging.contains(slot),
        state.unprotected[slot, default: []].insert(page).inserted
      else { return }
      if hasRing {
        state.ring.append(KVMRingEntry(slot: slot, page: page))
      } else {
        state.dirty[slot, default: []].insert(page)
      }
    }
  }

  private func call(_ name: String, _ body: (inout State) -> Int32) -> Int32 {
    state.withLock { state in
      state.names.append(name)
      return state.names.count == failing ? -errno : body(&state)
    }
  }

  func checkExtension(_ vm: Int32, _ capability: UInt32) -> Int32 {
    switch capability {
    case 168: 3
    case 192, 223: hasRing ? 1 << 20 : 0
    default: 0
    }
  }

  func enableCapability(_ vm: Int32, _ capability: UInt32, _ argument: UInt64) -> Int32 {
    call("ioctl KVM_ENABLE_CAP") { state in
      if capability == 168 { state.isManual = argument & 1 != 0 }
      return 0
    }
  }

  func setFlags(_ vm: Int32, _ slot: KVMSlot, _ flags: UInt32) -> Int32 {
    call("ioctl KVM_SET_USER_MEMORY_REGION") { state in
      guard slots.contains(slot) else { return -22 }
      if flags & 1 != 0 {
        state.logging.insert(slot.number)
      } else {
        state.logging.remove(slot.number)
        state.dirty[slot.number] = nil
        state.unprotected[slot.number] = nil
      }
      return 0
    }
  }

  func getDirtyLog(_ vm: Int32, slot: UInt32, into words: inout [UInt64]) -> Int32 {
    call("ioctl KVM_GET_DIRTY_LOG") { state in
      if hasRing { return -6 }
      guard state.logging.contains(slot) else { return -2 }
      for index in words.indices { words[index] = 0 }
      for page in state.dirty[slot, default: []] { words[Int(page / 64)] |= 1 << (page % 64) }
      if !state.isManual {
        state.dirty[slot] = nil
        state.unprotected[slot] = nil
      }
      return 0
    }
  }

  func clearDirtyLog(
    _ vm: Int32, slot: UInt32, words: [UInt64], wordRange: Range<Int>, pageCount: UInt32
  ) -> Int32 {
    whileProtecting()
    return call("ioctl KVM_CLEAR_DIRTY_LOG") { state in
      let first = UInt64(wordRange.lowerBound) * 64
      guard let pages = slots.first(where: { $0.number == slot })?.gpa.pageCount(.fourKiB),
        first + UInt64(pageCount) <= pages,
        pageCount % 64 == 0 || first + UInt64(pageCount) == pages
      else { return -22 }
      state.clears.append((first, pageCount))
      for page in first..<first + UInt64(pageCount)
      where words[Int(page / 64)] & (1 << (page % 64)) != 0 {
        state.dirty[slot]?.remove(page)
        state.unprotected[slot]?.remove(page)
      }
      return 0
    }
  }

  func resetDirtyRings(_ vm: Int32) -> Int32 {
    whileProtecting()
    return call("ioctl KVM_RESET_DIRTY_RINGS") { state in
      let planned = resetPlan(state.taken.count)
      guard planned >= 0 else { return planned }
      let count = min(state.taken.count, resetCountMax, Int(planned))
      for entry in state.taken.prefix(count) where !resetLies {
        state.unprotected[entry.slot]?.remove(entry.page)
      }
      state.taken.removeFirst(count)
      return Int32(count)
    }
  }

  func mapRing(_ vcpu: Int32, byteCount: UInt64) -> Int64 {
    Int64(
      call("mmap of the dirty ring") { state in
        state.mappedRings += 1
        return 4096
      })
  }

  func unmapRing(_ address: UInt64, byteCount: UInt64) { state.withLock { $0.mappedRings -= 1 } }

  func takeEntries(
    _ ring: UInt64, entryCount: UInt32, position: inout UInt32, into entries: inout [KVMRingEntry]
  ) {
    state.withLock { state in
      entries += state.ring
      position &+= UInt32(state.ring.count)
      state.taken += state.ring
      state.ring = []
    }
  }
}
