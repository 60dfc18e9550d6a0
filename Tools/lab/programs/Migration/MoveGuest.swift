import Addressing
import DeviceMigration
import DirtyTracker
import Simulation

/// What the guest, its drivers and its devices do while it is moved: between any two steps of the
/// migration, from one seed, besides the DMA that the pinning device does by itself.
final class MoveGuest: MigrationObserver {
  var side: MoveSide
  private var random: SplitMix64
  private var cancelAt: Int?
  private var cancellation: CancellationRequest?
  private var eventCount = 0

  init(_ side: MoveSide, seed: UInt64) {
    self.side = side
    self.random = SplitMix64(seed: seed)
  }

  /// Another attempt begins.
  /// - Parameter cancelAt: cancels at the event of this number, counted from 1.
  func expect(cancelAt: Int?, _ cancellation: CancellationRequest) {
    eventCount = 0
    self.cancelAt = cancelAt
    self.cancellation = cancellation
  }

  func migration(_ event: MigrationEvent) {
    eventCount += 1
    if eventCount == cancelAt { cancellation?.cancel(because: "the test says so") }
    guard side.machine.isRunning else { return }
    for _ in 0..<6 { act() }
  }

  func act() {
    let slot = random.below(MoveSide.slotCount)
    let page = MoveSide.slot(slot).first.rawValue + random.below(UInt64(16)) * 4096
    let value = random.next()
    switch random.below(9) {
    case 0, 1:
      // What the backend refuses, the guest has not got; the tracker knows which.
      if side.gpa(of: slot) != nil { try? side.unmap(slot) }
      if side.gpa(of: slot) == nil { try? side.map(slot, to: anyGPA()) }
    case 2: _ = side.pinning.order(.unpin, page, byteCount: 4096)
    case 3, 4:
      _ = side.pinning.order(.pin, page, byteCount: 4096)
      _ = side.pinning.order(.writePinned, page + 8 * (value % 256), byteCount: 8, value: value)
    case 5:
      // Written through a mapping without a pin.
      let errno = side.pinning.order(
        .writeUnpinned, page + 8 * (value % 256), byteCount: 8, value: value)
      precondition(errno == 0 || side.gpa(of: slot) == nil || side.isBroken, "errno \(errno)")
    case 6:
      let gpa = anyGPA()
      side.ram.store(Structure().u64(value).bytes, at: gpa.rawValue)
      side.tracker.vcpuWrote(AddressRange(first: gpa, last: gpa.lastOfPage(.fourKiB)))
    case 7:
      let offset = random.below(UInt64(PinningDevice.memoryByteCount / 8)) * 8
      _ = side.pinning.file.write(
        Structure().u64(value).bytes, at: PinningDevice.memoryOffset + offset)
    default: _ = side.setScratch(UInt8(truncatingIfNeeded: value), port: value >> 8 & 1)
    }
  }

  /// Where 16 pages fit, below or above the hole.
  func anyGPA() -> GPA {
    let regions = side.ram.layout.regions
    let region = regions[random.below(regions.count)]
    return side.ram.layout.gpa(ofPage: region.firstPage + random.below(region.pageCount - 16))
  }
}
