import Addressing
public import EventTrace
import IOVAMapping

/// A recording of a real guest's IOMMU traffic, made fit for a guest of ours: a list of events that
/// begins and ends with nothing mapped.
///
/// How it is folded: page number p of the recorded guest (paddr / 4096) becomes page number
/// p mod n of ours, of n pages. So the same page is always the same page, neighbours stay
/// neighbours, and two pages become one only where our guest has less RAM than the recorded one. A
/// mapping that then lies across the hole under 4 GiB, or across the end of RAM, becomes two
/// mappings with adjacent IOVAs; an unmap of it spans both.
///
/// How it is cleaned: recordings do not name the domain, so one of several devices maps an IOVA
/// twice. Of two such mappings the first stays until it is unmapped. Whatever is left out is
/// counted. Recordings do not state permissions: everything is mapped for reading and writing.
public struct RecordedTraffic: Sendable {
  /// What was kept, changed and left out.
  public struct Notes: Hashable, Sendable {
    public var mapCount = 0
    public var unmapCount = 0
    /// Mappings that became two, at the hole or at the end of RAM.
    public var splitMapCount = 0
    /// Left out: an IOVA mapped a second time.
    public var doubleMapCount = 0
    /// Left out: not whole pages, or larger than all of RAM.
    public var unusableMapCount = 0
    /// Left out: an unmap of nothing, as a second unmap after a double map is.
    public var emptyUnmapCount = 0
    /// Left out: an unmap that would cut a mapping of another domain.
    public var bisectingUnmapCount = 0
    /// Mappings still there at the end, which the events appended for it unmap.
    public var leftMappedCount = 0
    /// Mappings at once, at most.
    public var liveCountMax = 0
  }

  public let events: [IOMMUEvent]
  public let notes: Notes

  static let empty = RecordedTraffic(events: [], notes: Notes())

  private init(events: [IOMMUEvent], notes: Notes) {
    self.events = events
    self.notes = notes
  }

  /// - Parameter recorded: as `FtraceImporter` reads them, in order.
  public init(_ recorded: some Sequence<FtraceEvent.Kind>, layout: GuestLayout) {
    var cleaner = Cleaner(layout: layout)
    for event in recorded {
      switch event {
      case .map(let iova, let gpaFirst): cleaner.map(iova, gpaFirst)
      case .unmap(let iova, _): cleaner.unmap(iova)
      }
    }
    cleaner.unmapRest()
    self.init(events: cleaner.events, notes: cleaner.notes)
  }

  private struct Cleaner: ~Copyable {
    let layout: GuestLayout
    var table = MappingTable(policy: .refuse, retiredCountMax: 1)
    var events: [IOMMUEvent] = []
    var notes = Notes()

    init(layout: GuestLayout) { self.layout = layout }

    mutating func map(_ iova: IOVARange, _ gpa: GPA) {
      let pageCount = iova.pageCount(.fourKiB)
      guard iova.isAligned(to: .fourKiB), gpa.isAligned(to: .fourKiB),
        pageCount <= layout.pageCount
      else {
        notes.unusableMapCount += 1
        return
      }
      guard table.firstMapping(overlapping: iova) == nil else {
        notes.doubleMapCount += 1
        return
      }
      let parts = fold(iova, firstPage: gpa.rawValue / 4096 % layout.pageCount)
      for part in parts {
        do {
          try table.map(part.iova, to: part.gpa, permissions: .readWrite)
          events.append(.map(part.iova, gpa: part.gpa, .readWrite))
        } catch {
          notes.unusableMapCount += 1
        }
      }
      notes.mapCount += 1
      if parts.count > 1 { notes.splitMapCount += 1 }
      notes.liveCountMax = max(notes.liveCountMax, table.count)
    }

    /// Cuts at the ends of regions; after the last page comes the first.
    private func fold(_ iova: IOVARange, firstPage: UInt64) -> [(iova: IOVARange, gpa: GPA)] {
      var parts: [(iova: IOVARange, gpa: GPA)] = []
      var page = firstPage
      var first = iova.first
      while true {
        let rest = AddressRange(first: first, last: iova.last).pageCount(.fourKiB)
        let count = min(rest, layout.region(ofPage: page).endPage &- page)
        // Inside `iova`, since `count` is at most what is left of it.
        let last = IOVA(first.rawValue &+ count &* 4096 &- 1)
        parts.append((AddressRange(first: first, last: last), layout.gpa(ofPage: page)))
        guard last < iova.last else { return parts }
        first = IOVA(last.rawValue &+ 1)
        page = (page &+ count) % layout.pageCount
      }
    }

    mutating func unmap(_ iova: IOVARange) {
      do {
        let result = try table.unmap(iova)
        guard result.mappingCount > 0 else {
          notes.emptyUnmapCount += 1
          return
        }
        notes.unmapCount += 1
        events.append(.unmap(iova))
      } catch {
        notes.bisectingUnmapCount += 1
      }
    }

    mutating func unmapRest() {
      notes.leftMappedCount = table.count
      table.forEachRun { events.append(.unmap($0)) }
      table.removeAll()
    }
  }
}
