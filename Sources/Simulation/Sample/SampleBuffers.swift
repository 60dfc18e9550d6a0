import Addressing
import Locking

/// Picks a buffer for a device's next write.
final class SampleBuffers: Sendable {
  private let buffers: MappedBuffers
  private let random: Mutex<SplitMix64>

  init(_ buffers: MappedBuffers, seed: UInt64) {
    self.buffers = buffers
    random = Mutex(SplitMix64(seed: seed))
  }

  func next() -> [IOVARange] {
    random.withLock { random in buffers.pick(&random).map { [$0] } ?? [] }
  }
}
