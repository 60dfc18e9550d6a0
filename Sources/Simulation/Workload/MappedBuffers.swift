public import Addressing
import Locking

/// The buffers a guest has given its devices to write to: what is mapped writable now. Devices pick
/// from it, the driver changes it.
public final class MappedBuffers: Sendable {
  private struct State: Sendable {
    var buffers: [IOVARange] = []
    /// Index into `buffers` by first IOVA.
    var places: [UInt64: Int] = [:]
  }
  private let state = Mutex(State())

  public init() {}

  public var count: Int { state.withLock { $0.buffers.count } }
  public var buffers: [IOVARange] { state.withLock { $0.buffers } }

  /// Any one of them; nil when there is none.
  public func pick(_ random: inout SplitMix64) -> IOVARange? {
    let ticket = random.next()
    return state.withLock { state in
      guard !state.buffers.isEmpty else { return nil }
      return state.buffers[Int(ticket % UInt64(state.buffers.count))]
    }
  }

  /// Whole pages somewhere in any one of them, `byteCountMax` bytes at most, but a page at least.
  public func pickPages(byteCountMax: UInt64, _ random: inout SplitMix64) -> IOVARange? {
    guard let buffer = pick(&random) else { return nil }
    let pageCount = buffer.pageCount(.fourKiB)
    let page = random.below(pageCount)
    let wanted = min(max(byteCountMax / 4096, 1), pageCount &- page)
    // Inside `buffer`, whose first and last are page boundaries.
    let first = buffer.first.rawValue &+ page &* 4096
    return AddressRange(first: IOVA(first), last: IOVA(first &+ wanted &* 4096 &- 1))
  }

  /// - Precondition: whole pages that no other buffer here has the first of.
  func insert(_ buffer: IOVARange) {
    precondition(buffer.isAligned(to: .fourKiB), "a buffer is whole pages")
    state.withLock { state in
      precondition(state.places[buffer.first.rawValue] == nil, "the buffer is here already")
      state.places[buffer.first.rawValue] = state.buffers.count
      state.buffers.append(buffer)
    }
  }

  /// Takes out the buffer that begins where `buffer` does, if there is one.
  func remove(_ buffer: IOVARange) {
    state.withLock { state in
      guard let place = state.places.removeValue(forKey: buffer.first.rawValue) else { return }
      let last = state.buffers.removeLast()
      guard place < state.buffers.count else { return }
      state.buffers[place] = last
      state.places[last.first.rawValue] = place
    }
  }

  func removeAll() { state.withLock { $0 = State() } }
}
