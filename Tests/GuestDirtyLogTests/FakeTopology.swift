import GuestDirtyLog
import PageBitmap
import Locking

/// Nodes that are not there, and what was asked of each.
final class FakeTopology: NUMATopology {
  let nodeCount: Int
  private let asked = Mutex<[Int: Int]>([:])

  init(nodeCount: Int) { self.nodeCount = nodeCount }

  func allocator(onNode node: Int) -> any BitmapAllocator {
    asked.withLock { $0[node, default: 0] += 1 }
    return HeapBitmapAllocator()
  }

  var allocatorsByNode: [Int: Int] { asked.withLock { $0 } }
}
