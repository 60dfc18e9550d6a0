public import Addressing
import DeviceMigration
import Locking

/// One write of a device to memory.
public struct DMAWrite: Hashable, Sendable {
  public let iova: IOVARange
  /// What the first byte was translated to.
  public let gpa: GPA
  public let stamp: DMAStamp
}

/// Who wrote a piece of memory, and when: the content of every 16 bytes a simulated device writes.
/// The generation is that of the round, so that an oracle can tell a page that arrived too old.
public struct DMAStamp: Hashable, Sendable {
  public static let byteCount = 16

  public let generation: UInt32
  /// Of the traffic's device.
  public let deviceNumber: UInt32
  /// Counts the writes of the device.
  public let sequence: UInt64

  /// `count` times the stamp, little-endian: generation, device, sequence.
  public func bytes(count: Int) -> [UInt8] {
    var unit: [UInt8] = []
    for word in [UInt64(generation) | UInt64(deviceNumber) << 32, sequence] {
      for shift in stride(from: 0, to: 64, by: 8) {
        unit.append(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
      }
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count * Self.byteCount)
    for _ in 0..<count { bytes += unit }
    return bytes
  }

  public init(generation: UInt32, deviceNumber: UInt32, sequence: UInt64) {
    self.generation = generation
    self.deviceNumber = deviceNumber
    self.sequence = sequence
  }

  /// Nil when fewer than 16 bytes are there.
  public init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count >= Self.byteCount else { return nil }
    var words: [UInt64] = [0, 0]
    for (index, byte) in bytes.prefix(Self.byteCount).enumerated() {
      words[index / 8] |= UInt64(byte) << UInt64(8 * (index % 8))
    }
    generation = UInt32(truncatingIfNeeded: words[0])
    deviceNumber = UInt32(truncatingIfNeeded: words[0] >> 32)
    sequence = words[1]
  }
}

/// The DMA of one simulated device: seeded writes into buffers its driver has mapped, while the
/// device's state lets it.
///
/// Invariants:
/// 1. A write is one step to a change of the device's state: it comes before it, whole, or not.
/// 2. Each write also changes the device's own state, so that a device migrated at the wrong
///    moment has a digest that differs.
/// 3. A page is pinned before it is written where the port pins; at most `pinnedRangeCountMax`
///    ranges are held, the oldest is let go first.
///
/// One thread steps; ``unmapped(_:)`` may come from any, with no lock of the container held.
public final class DMATraffic: Sendable {
  fileprivate struct Progress {
    var random: UInt64
    var sequence: UInt64 = 0
    var refusedCount: UInt64 = 0
    var pinned: [IOVARange] = []
  }

  public let device: any WorkingDevice
  public let deviceNumber: UInt32
  private let port: any DMAPort
  private let buffers: @Sendable () -> [IOVARange]
  private let pinnedRangeCountMax: Int
  private let progress: Mutex<Progress>

  /// - Parameter buffers: what the driver has mapped writable at this moment. It may be out of
  ///   date by the time of the write: then the write fails as on real hardware, and is counted.
  public init(
    device: any WorkingDevice, deviceNumber: UInt32, port: any DMAPort, seed: UInt64,
    pinnedRangeCountMax: Int = 64, buffers: @escaping @Sendable () -> [IOVARange]
  ) {
    precondition(pinnedRangeCountMax > 0, "a device that pins holds at least one range")
    self.device = device
    self.deviceNumber = deviceNumber
    self.port = port
    self.buffers = buffers
    self.pinnedRangeCountMax = pinnedRangeCountMax
    self.progress = Mutex(Progress(random: seed))
  }

  /// Writes that reached memory.
  public var writeCount: UInt64 { progress.withLock { $0.sequence } }
  /// Writes the IOMMU did not let through.
  public var refusedCount: UInt64 { progress.withLock { $0.refusedCount } }
  public var pinnedRanges: [IOVARange] { progress.withLock { $0.pinned } }

  /// One write of 16 bytes to 4 KiB inside one page of one buffer.
  /// - Returns: nil when the device may not write, has no buffer, or was refused.
  @discardableResult
  public func step(generation: UInt32) -> DMAWrite? {
    let buffers = self.buffers()
    guard !buffers.isEmpty else { return nil }
    return device.whileItMayWrite { image -> DMAWrite? in
      progress.withLock { progress in
        let buffer = buffers[Int(progress.next() % UInt64(buffers.count))]
        guard let range = Self.part(of: buffer, progress.next()) else { return nil }
        let stamp = DMAStamp(
          generation: generation, deviceNumber: deviceNumber, sequence: progress.sequence)
        let count = Int(range.lastOffset + 1) / DMAStamp.byteCount
        let content = stamp.bytes(count: count)
        guard pin(range, &progress),
          let gpa = DeviceBytes.reading(content, { port.write($0, at: range.first) })
        else {
          progress.refusedCount += 1
          return nil
        }
        progress.sequence += 1
        image.work(progress.next())
        return DMAWrite(iova: range, gpa: gpa, stamp: stamp)
      }
    } ?? nil
  }

  /// The container takes `range` away (the `dma_unmap` callback of vfio): what is pinned there is
  /// let go.
  public func unmapped(_ range: IOVARange) {
    guard let port = port as? any PinningPort else { return }
    let gone = progress.withLock { progress in
      let gone = progress.pinned.filter { $0.overlaps(range) }
      progress.pinned.removeAll { $0.overlaps(range) }
      return gone
    }
    for range in gone { port.unpin(range) }
  }

  /// Lets go of everything pinned, as a driver does when its device is closed.
  public func unpinAll() { unmapped(.wholeSpace) }

  private func pin(_ range: IOVARange, _ progress: inout Progress) -> Bool {
    guard let port = port as? any PinningPort else { return true }
    let page = range.expanded(to: .fourKiB)
    if progress.pinned.contains(page) { return true }
    do { try port.pin(page) } catch { return false }
    progress.pinned.append(page)
    if progress.pinned.count > pinnedRangeCountMax { port.unpin(progress.pinned.removeFirst()) }
    return true
  }

  /// Whole units of 16 bytes inside one page of `buffer`.
  private static func part(of buffer: IOVARange, _ value: UInt64) -> IOVARange? {
    let unit = UInt64(DMAStamp.byteCount)
    let pageCount = buffer.pageCount(.fourKiB)
    let skipped = (value % pageCount) &* 4096
    guard
      let page = buffer.first.roundedDown(to: .fourKiB).advanced(byBytes: skipped),
      let inside = AddressRange(first: page, last: page.lastOfPage(.fourKiB))
        .intersection(buffer)
    else { return nil }
    let unitCount = (inside.lastOffset &+ 1) / unit
    guard unitCount > 0 else { return nil }
    let first = (value >> 20) % unitCount
    let count = 1 &+ (value >> 40) % (unitCount &- first)
    return inside.first.advanced(byBytes: first &* unit)
      .flatMap { IOVARange(first: $0, byteCount: count &* unit) }
  }
}

extension DMATraffic.Progress {
  /// SplitMix64.
  fileprivate mutating func next() -> UInt64 {
    random &+= 0x9e37_79b9_7f4a_7c15
    var z = random
    z = (z ^ (z &>> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z &>> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z &>> 31)
  }
}
