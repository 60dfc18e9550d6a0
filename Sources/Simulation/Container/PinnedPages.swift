/// The pages one mediated device holds pinned (vfio_pin_pages).
struct PinnedPages: Sendable {
  /// Pins what it is about to write, as drivers of mediated devices do.
  let onDemand: Bool
  /// Held at most when pinning on demand; the oldest is unpinned for the next. Nil: no limit.
  let countMax: Int?
  private(set) var pages = PageSet()
  private var order: [UInt64] = []
  private var oldest = 0

  init(onDemand: Bool, countMax: Int? = nil) {
    self.onDemand = onDemand
    self.countMax = countMax
  }

  mutating func insert(_ page: UInt64) {
    guard !pages.contains(page) else { return }
    pages.insert(page...page)
    guard let countMax else { return }
    order.append(page)
    while order.count - oldest > max(1, countMax) {
      pages.remove(order[oldest]...order[oldest])
      oldest += 1
    }
    if oldest > 1024, oldest * 2 > order.count {
      order.removeFirst(oldest)
      oldest = 0
    }
  }

  mutating func remove(_ range: ClosedRange<UInt64>) {
    pages.remove(range)
    if countMax != nil {
      order.removeSubrange(0..<oldest)
      oldest = 0
      order.removeAll { range.contains($0) }
    }
  }
}
