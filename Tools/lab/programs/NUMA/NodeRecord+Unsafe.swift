import CNuma
import Glibc
import GuestDirtyLog
import Locking
import PageBitmap

/// Where the log's memory went, by the kernel's own word.
///
/// Unsafe because memory is named to the kernel by address. Sound because addresses are only asked
/// about (move_pages with no target moves nothing), never read.
final class NodeRecord: Sendable {
  struct Allocation: Sendable {
    let node: Int
    let address: UInt
    let byteCount: Int
  }

  struct Placement {
    var right = 0
    var wrong = 0
    var untouched = 0
  }

  private let allocations = Mutex<[Allocation]>([])

  func add(_ allocation: Allocation) { allocations.withLock { $0.append(allocation) } }

  /// Of the pages of everything allocated for one node.
  func placement(onNode node: Int) -> Placement {
    var placement = Placement()
    for allocation in allocations.withLock({ $0 }) where allocation.node == node {
      for address in stride(
        from: allocation.address, to: allocation.address + UInt(allocation.byteCount), by: 4096)
      {
        var pages: [UnsafeMutableRawPointer?] = unsafe [
          UnsafeMutableRawPointer(bitPattern: address)
        ]
        var status: [Int32] = [-1]
        let result = unsafe move_pages(0, 1, &pages, nil, &status, 0)
        if result != 0 || status[0] < 0 {
          placement.untouched += 1
        } else if status[0] == Int32(node) {
          placement.right += 1
        } else {
          placement.wrong += 1
        }
      }
    }
    return placement
  }

  /// The node the calling thread runs on; -1 when the kernel does not say.
  static func currentNode() -> Int {
    // The 39th field is the CPU; the second, a name, may hold spaces and ends with a bracket.
    let fields = Folder.text("/proc/thread-self/stat")?.split(separator: ")").last?
      .split(separator: " ")
    guard let fields, fields.count > 36, let cpu = Int32(fields[36]) else { return -1 }
    return Int(numa_node_of_cpu(cpu))
  }
}

/// The machine's nodes, with a record of what is allocated on which.
struct RecordingTopology: NUMATopology {
  private let system = SystemNUMATopology()
  let record: NodeRecord
  /// A planted fault: each node's memory is taken from another.
  let swapsNodes: Bool

  var nodeCount: Int { system.nodeCount }

  func allocator(onNode node: Int) -> any BitmapAllocator {
    let from = swapsNodes ? (node + 1) % nodeCount : node
    return RecordingAllocator(base: system.allocator(onNode: from), node: node, record: record)
  }
}

struct RecordingAllocator: BitmapAllocator {
  let base: any BitmapAllocator
  let node: Int
  let record: NodeRecord

  func allocate(byteCount: Int) -> UnsafeMutableRawPointer? {
    guard let memory = unsafe base.allocate(byteCount: byteCount) else { return nil }
    record.add(.init(node: node, address: UInt(bitPattern: memory), byteCount: byteCount))
    return unsafe memory
  }

  func deallocate(_ pointer: UnsafeMutableRawPointer, byteCount: Int) {
    unsafe base.deallocate(pointer, byteCount: byteCount)
  }
}
