import Addressing
import Locking

/// The DMA of one device: it writes pages of the buffers a guest gave it, each with a header that
/// says which write it holds.
///
/// It does not know whether its device may write: its user calls `step` while the device's state
/// lets it.
public final class DeviceTraffic: Sendable {
  /// Unique among the guest's writers, as in `PageHeader.writer`.
  public let writer: UInt64
  private let port: any DMAPort
  private let buffers: MappedBuffers
  private let pageCountMax: UInt64
  private let inner: Mutex<Inner>

  private struct Inner: Sendable {
    var random: SplitMix64
    var generation: UInt64 = 0
    var written: UInt64 = 0
    var missed: UInt64 = 0
    var words: [UInt64]
  }

  /// - Parameters:
  ///   - pageCountMax: pages of one step, at most.
  ///   - bodyWordCount: words of 8 bytes after each header, at most 508.
  /// - Precondition: `pageCountMax` is not 0.
  public init(
    writer: UInt64, port: any DMAPort, buffers: MappedBuffers, seed: UInt64,
    pageCountMax: UInt64 = 4, bodyWordCount: Int = 28
  ) {
    precondition(pageCountMax > 0, "a step writes a page at least")
    precondition((0...508).contains(bodyWordCount), "a page has 508 words after the header")
    self.writer = writer
    self.port = port
    self.buffers = buffers
    self.pageCountMax = pageCountMax
    inner = Mutex(
      Inner(
        random: SplitMix64(seed: seed).derived(for: writer),
        words: Array(repeating: 0, count: 4 + bodyWordCount)))
  }

  /// Pages written.
  public var writtenPageCount: UInt64 { inner.withLock { $0.written } }
  /// Writes that reached no memory: the guest had unmapped the buffer meanwhile.
  public var missedPageCount: UInt64 { inner.withLock { $0.missed } }
  /// The generation of the last write; 0 before the first.
  public var generation: UInt64 { inner.withLock { $0.generation } }

  /// Picks a buffer and writes one or more of its pages. Nothing while there is no buffer.
  public func step() {
    inner.withLock { inner in
      let wanted = 1 &+ inner.random.below(pageCountMax)
      guard
        let pages = buffers.pickPages(byteCountMax: wanted &* 4096, &inner.random)
      else { return }
      var first = pages.first
      while true {
        inner.generation &+= 1
        let header = PageHeader(
          writer: writer, generation: inner.generation, address: first.rawValue)
        for index in 0..<4 { inner.words[index] = header.words[index] }
        var filler = inner.random.next()
        for index in 4..<inner.words.count {
          inner.words[index] = filler
          filler = filler &* 0x2545_f491_4f6c_dd1d &+ 1
        }
        let gpa = LittleEndian.withBytes(of: inner.words) { port.write($0, at: first) }
        if gpa == nil { inner.missed &+= 1 } else { inner.written &+= 1 }
        guard let next = first.advanced(byBytes: 4096), next <= pages.last else { return }
        first = next
      }
    }
  }
}
