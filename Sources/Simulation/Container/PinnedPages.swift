/// The pages one mediated device holds pinned (vfio_pin_pages).
struct PinnedPages: Sendable {
  /// Pins what it is about to write, as drivers of mediated devices do.
  let onDemand: Bool
  /// Held at most when pinning on demand; the oldest is unpinned for the next. Nil: no limit.
  let countMax: Int?
  private(set) var pages = PageSet()
  private(set) var count = 0
  /// Pages in the order they were pinned, some pinned no more. Kept with a limit only.
  private var order: [UInt64] = []
  private var oldest = 0

  init(onDemand: Bool, countMax: Int? = nil) {
    self.onDemand = onDemand
    self.countMax = countMax.map { max(1, $0) }
  }

  mutating func insert(_ page: UInt64) {
    guard !pages.contains(page) else { return }
    pages.insert(page...page)
    count += 1
    guard let countMax else { return }
    order.append(page)
    while count > countMax {
      remove(order[oldest]...order[oldest])
      oldest += 1
    }
    if order.count > 4 * countMax + 1024 {
      order = order[oldest...].filter { pages.contains($0) }
      oldest = 0
    }
  }

  mutating func remove(_ range: ClosedRange<UInt64>) {
    pages.forEachRun(in: range) { count -= Int($0.upperBound - $0.lowerBound) + 1 }
    pages.remove(range)
  }
}
