import Addressing
import CNuma
public import PageBitmap

/// The nodes of this machine, by libnuma.
///
/// Unsafe because nodes are named to the kernel by an address of a mask, and memory by its own.
/// Sound because the mask lives for the call and the memory is the allocation itself.
public struct SystemNUMATopology: NUMATopology {
  public let nodeCount: Int

  public init() {
    // Below 0 no other function of the library may be called.
    guard numa_available() >= 0 else {
      nodeCount = 1
      return
    }
    nodeCount = min(max(Int(numa_max_node()) + 1, 1), Limits.numaNodeCountMax)
  }

  public func allocator(onNode node: Int) -> any BitmapAllocator {
    guard nodeCount > 1, node >= 0, node < nodeCount else { return HeapBitmapAllocator() }
    return NodeBitmapAllocator(node: node)
  }
}

/// Fresh pages that prefer one node.
struct NodeBitmapAllocator: BitmapAllocator {
  let node: Int
  private let heap = HeapBitmapAllocator()

  init(node: Int) { self.node = node }

  func allocate(byteCount: Int) -> UnsafeMutableRawPointer? {
    guard let memory = unsafe heap.allocate(byteCount: byteCount) else { return nil }
    var mask = [UInt](repeating: 0, count: node / UInt.bitWidth + 1)
    mask[node / UInt.bitWidth] = 1 << UInt(node % UInt.bitWidth)
    let bits = UInt(mask.count * UInt.bitWidth + 1)
    // Preferred, not bound: a full node must not cost the log its memory. A refusal, as in a
    // container without the right, leaves memory from anywhere.
    _ = unsafe mask.withUnsafeBufferPointer { nodes in
      unsafe mbind(memory, UInt(byteCount), MPOL_PREFERRED, nodes.baseAddress, bits, 0)
    }
    return unsafe memory
  }

  func deallocate(_ pointer: UnsafeMutableRawPointer, byteCount: Int) {
    unsafe heap.deallocate(pointer, byteCount: byteCount)
  }
}
