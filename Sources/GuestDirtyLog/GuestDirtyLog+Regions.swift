public import Addressing
import PageBitmap
import Locking

extension GuestDirtyLog {
  /// In GPA order.
  public var regions: [RAMRegion] { directory.withLock { $0.regions }.map(\.region) }

  public func region(holding gpa: GPA) -> RAMRegion? {
    directory.withLock { $0.regions.region(holding: gpa.rawValue &>> pageSize.shift)?.region }
  }

  /// Adds RAM, in the middle of a migration too: it is dirty as a whole for every consumer.
  public func addRegion(_ region: RAMRegion) throws(GuestDirtyLogError) {
    guard region.gpa.isAligned(to: pageSize) else {
      throw .unaligned(region, pageSize: pageSize)
    }
    try structure.withLock { (_) throws(GuestDirtyLogError) in
      let (regions, consumers) = directory.withLock { ($0.regions, $0.consumers.map(\.id)) }
      try check(region, against: regions)
      let serial = directory.withLock { $0.nextNumber() }
      let added: RegionLog
      do throws(PageBitmapError) {
        added = try RegionLog(
          region, serial: serial, pageSize: pageSize, allocator: topology.allocator(for: region),
          consumers: consumers, limits: limits, journal: journal)
      } catch {
        throw .outOfMemory(region, reason: error.description)
      }
      directory.withLock { directory in
        let index = directory.regions.index(endingFrom: added.firstPage)
        directory.regions.insert(added, at: index)
        added.withState { added.order(.regionAdded(region), &$0) }
      }
    }
  }

  private func check(
    _ region: RAMRegion, against regions: [RegionLog]
  ) throws(GuestDirtyLogError) {
    if let other = regions.first(where: { $0.region.gpa.overlaps(region.gpa) }) {
      throw .overlap(new: region, existing: other.region)
    }
    if regions.contains(where: { $0.region.name == region.name }) {
      throw .nameTaken(region.name)
    }
    guard regions.count < Limits.ramRegionCountMax else {
      throw .tooManyRegions(limit: Limits.ramRegionCountMax)
    }
    let limit = Limits.bitmapPageCountMax
    let there = regions.reduce(0) { $0 &+ $1.pageCount }
    guard region.gpa.pageCount(pageSize) <= limit &- there else {
      throw .pastLimit(region, pageCountMax: limit)
    }
  }

  /// Removes RAM. Its dirty and held-back pages are no pages any more. Pages of it in flight may be
  /// delivered; putting them back finds no region, and makes everything dirty.
  public func removeRegion(at gpa: GPA) throws(GuestDirtyLogError) -> RAMRegion {
    try structure.withLock { (_) throws(GuestDirtyLogError) in
      let page = gpa.rawValue &>> pageSize.shift
      guard let gone = directory.withLock({ $0.regions.region(holding: page) }) else {
        throw .noRegion(at: gpa)
      }
      directory.withLock { directory in
        directory.regions.removeAll { $0 === gone }
        // Under both locks, so that nobody sees the counts twice, or not at all.
        directory.countsOfGone += gone.withState { state in
          state.isGone = true
          gone.order(.regionRemoved(at: gone.region.gpa.first), &state)
          return state.counts
        }
      }
      return gone.region
    }
  }
}
