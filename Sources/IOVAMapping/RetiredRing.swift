import Addressing

/// The latest retired mappings, in the order they were retired; the oldest make room.
struct RetiredRing: Sendable {
  private var slots: [RetiredMapping] = []
  private var start = 0
  let capacity: Int
  /// The latest retirement that is no longer remembered.
  private(set) var evicted = Generation(0)

  init(capacity: Int) { self.capacity = capacity }

  var count: Int { slots.count }

  subscript(position: Int) -> RetiredMapping {
    let index = start &+ position
    return slots[index < slots.count ? index : index &- slots.count]
  }

  mutating func append(_ retired: RetiredMapping) {
    if slots.count < capacity {
      slots.append(retired)
    } else if capacity == 0 {
      evicted = retired.retired
    } else {
      evicted = slots[start].retired
      slots[start] = retired
      start = start &+ 1 == slots.count ? 0 : start &+ 1
    }
  }

  /// Position of the first mapping retired after `generation`.
  func position(after generation: Generation) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low &+ high) / 2
      if self[middle].retired <= generation { low = middle &+ 1 } else { high = middle }
    }
    return low
  }
}
