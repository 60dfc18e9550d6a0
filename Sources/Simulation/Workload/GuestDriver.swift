public import Addressing
import IOVAMapping
import Locking

/// A guest's IOMMU driver for one container: takes events from a stream, gives them to a listener,
/// and keeps the buffers its devices may write to.
///
/// Invariants:
/// 1. A buffer is offered only after the listener has mapped it, and is withdrawn before the
///    listener unmaps it. A device may still use an address it picked before: as a real one.
/// 2. A map that the listener refused is not offered. An unmap that it refused is not repeated: to
///    the guest the range is gone.
public final class GuestDriver: Sendable {
  /// What was done so far.
  public struct Counts: Hashable, Sendable {
    public var mapCount: UInt64 = 0
    public var unmapCount: UInt64 = 0
    public var passThroughSwitchCount: UInt64 = 0
    public var refusalCount: UInt64 = 0
    /// The latest refusal.
    public var lastRefusal: IOMMURefusal?
  }

  public let layout: GuestLayout
  /// What its devices may write to.
  public let buffers = MappedBuffers()
  private let listener: any IOMMUListener
  private let inner: Mutex<Inner>

  private struct Inner: ~Copyable {
    var stream: IOMMUStream
    /// The guest's own view of what is mapped.
    var table = MappingTable(policy: .split, retiredCountMax: 1)
    var isPassThrough = false
    var counts = Counts()
  }

  public init(stream: IOMMUStream, layout: GuestLayout, listener: any IOMMUListener) {
    self.layout = layout
    self.listener = listener
    inner = Mutex(Inner(stream: stream))
  }

  public var counts: Counts { inner.withLock { $0.counts } }
  /// Mappings the guest has, of any permission.
  public var mappingCount: Int { inner.withLock { $0.table.count } }
  /// What the guest has mapped, in IOVA order: what a destination maps before devices run there.
  public var mappings: [Mapping] {
    inner.withLock { inner in
      var found: [Mapping] = []
      found.reserveCapacity(inner.table.count)
      inner.table.forEach(in: .wholeSpace) { found.append($0) }
      return found
    }
  }
  /// Whether devices reach RAM without translation.
  public var isPassThrough: Bool { inner.withLock { $0.isPassThrough } }

  /// Takes one event. What a thread does at a rate; a scheduler may call it instead.
  public func step() {
    inner.withLock { inner in
      guard let event = inner.stream.next() else { return }
      apply(event, &inner)
    }
  }

  /// Unmaps all there is and leaves pass-through, as a guest that shuts down. Further steps go on
  /// from where the stream is, with unmaps of what is gone already.
  public func unmapEverything() {
    inner.withLock { inner in
      if inner.isPassThrough { apply(.passThrough(false), &inner) }
      var runs: [IOVARange] = []
      inner.table.forEachRun { runs.append($0) }
      for run in runs { apply(.unmap(run), &inner) }
    }
  }

  /// Maps buffers that the stream knows nothing of: rings a driver keeps, or on a destination all
  /// that the guest had mapped where it came from. There the stream's next steps unmap what is gone
  /// and map what is there.
  public func keep(_ mappings: [Mapping]) throws(IOMMURefusal) {
    try inner.withLock { (inner) throws(IOMMURefusal) in
      precondition(!inner.isPassThrough, "devices reach all of RAM as it is")
      for mapping in mappings {
        try map(mapping.iova, mapping.gpaFirst, mapping.permissions, &inner)
      }
    }
  }

  private func apply(_ event: IOMMUEvent, _ inner: inout Inner) {
    do {
      switch event {
      case .idle: break
      case .map(let iova, let gpa, let permissions): try map(iova, gpa, permissions, &inner)
      case .unmap(let iova): try unmap(iova, &inner)
      case .passThrough(let isOn): try setPassThrough(isOn, &inner)
      }
    } catch {
      inner.counts.refusalCount += 1
      inner.counts.lastRefusal = error
    }
  }

  private func map(
    _ iova: IOVARange, _ gpa: GPA, _ permissions: Permissions, _ inner: inout Inner
  ) throws(IOMMURefusal) {
    // Where something is mapped already the guest means to replace it.
    withdraw(iova, &inner)
    inner.counts.mapCount += 1
    try listener.map(iova, to: gpa, permissions: permissions)
    do {
      try inner.table.map(iova, to: gpa, permissions: permissions)
    } catch {
      throw IOMMURefusal(event: .map(iova, gpa: gpa, permissions), reason: "\(error)")
    }
    if permissions.contains(.write) { buffers.insert(iova) }
  }

  private func unmap(_ iova: IOVARange, _ inner: inout Inner) throws(IOMMURefusal) {
    withdraw(iova, &inner)
    inner.counts.unmapCount += 1
    try listener.unmap(iova)
  }

  /// Takes a range out of what the guest has mapped; parts of mappings outside it stay offered.
  private func withdraw(_ range: IOVARange, _ inner: inout Inner) {
    var cut: [Mapping] = []
    inner.table.forEach(in: range) { mapping in
      guard mapping.isWritable else { return }
      buffers.remove(mapping.iova)
      if !range.contains(mapping.iova) { cut.append(mapping) }
    }
    do {
      try inner.table.unmap(range)
    } catch {
      preconditionFailure("a stream unmaps whole pages: \(error)")
    }
    for mapping in cut {
      inner.table.forEach(in: mapping.iova) { buffers.insert($0.iova) }
    }
  }

  private func setPassThrough(_ isOn: Bool, _ inner: inout Inner) throws(IOMMURefusal) {
    guard isOn != inner.isPassThrough else { return }
    inner.counts.passThroughSwitchCount += 1
    if !isOn { buffers.removeAll() }
    inner.isPassThrough = isOn
    try listener.setPassThrough(isOn)
    guard isOn else { return }
    for region in layout.regions {
      buffers.insert(
        AddressRange(
          first: IOVA(region.gpa.first.rawValue), last: IOVA(region.gpa.last.rawValue)))
    }
  }
}
