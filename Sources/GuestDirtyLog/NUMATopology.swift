public import PageBitmap

/// The memory nodes bitmaps can be placed on.
public protocol NUMATopology: Sendable {
  /// Nodes there are, numbered from 0; 1 on a machine without NUMA.
  var nodeCount: Int { get }
  /// Memory on one node. A node that is full, or is not there, gives memory from elsewhere: slower,
  /// never missing.
  func allocator(onNode node: Int) -> any BitmapAllocator
}

extension NUMATopology {
  /// The node of a region, nil where it makes no difference.
  func node(of region: RAMRegion) -> Int? {
    guard nodeCount > 1, let node = region.node, node >= 0, node < nodeCount else { return nil }
    return node
  }

  func allocator(for region: RAMRegion) -> any BitmapAllocator {
    guard let node = node(of: region) else { return HeapBitmapAllocator() }
    return allocator(onNode: node)
  }
}

/// Runs the work of each node where that node's memory is near. This module starts no thread: who
/// has threads gives them.
public protocol NodeWorkers: Sendable {
  /// Runs every body once, those of different nodes side by side if it can, and returns when all
  /// have returned.
  func run(_ work: [NodeWork])
}

/// What is to be done for the regions of one node.
public struct NodeWork: Sendable {
  /// Nil for regions that are on no node.
  public let node: Int?
  public let body: @Sendable () -> Void

  public init(node: Int?, body: @escaping @Sendable () -> Void) {
    self.node = node
    self.body = body
  }
}

/// One body after the other, on the thread that asks.
public struct InlineNodeWorkers: NodeWorkers {
  public init() {}
  public func run(_ work: [NodeWork]) { for each in work { each.body() } }
}
