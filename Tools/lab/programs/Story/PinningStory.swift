import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import VFIOKernel

/// A migration with the pinning device, by the tracker over the real type1 container, step by step.
///
/// What was written comes from the device's journal and from memory itself, never from the tracker.
final class PinningStory {
  private static let slotCount: UInt64 = 48
  private static let slotPages: UInt64 = 64
  private static let roundCount = 6
  /// Half of it lies below 4 GiB: more than the slots need.
  private static let ramByteCount: UInt64 = 32 << 20

  private let seed: UInt64
  private var random: SplitMix64
  private let subject: PinningSubject
  private let destination: GuestRAM
  private let tracker: DirtyTracker
  private let container: ContainerID
  private let consumer: ConsumerID
  /// Slot of IOVA to slot of GPA, and how many of its pages are mapped.
  private var live: [UInt64: (gpaSlot: UInt64, pageCount: UInt64)] = [:]
  /// IOVA pages, with the round in which each was pinned.
  private var pinned: [UInt64: Int] = [:]
  private var round = 0
  private var journalRead: UInt64 = 0
  private var value: UInt64 = 0
  /// GPA pages the journal says were written since they were sent.
  private var unsent: Set<UInt64> = []
  private var notes: [String] = []
  private var resentPinned = 0
  private var writtenCount = 0
  private var unmapCount = 0
  private var finalPinned: Set<UInt64> = []
  private var finalSent: Set<UInt64> = []
  private var counts = PinningDevice.Status?.none

  /// GPA pages that were written and never sent afterwards.
  var lostPages: [UInt64] { unsent.sorted() }
  private(set) var differentPageCount = 0

  init(_ name: String, seed: UInt64, omitting: Set<TrackerOmission> = []) throws {
    self.seed = seed
    random = SplitMix64(seed: seed)
    subject = try PinningSubject(name, ramByteCount: Self.ramByteCount)
    destination = try GuestRAM(layout: GuestLayout(byteCount: Self.ramByteCount))
    tracker = DirtyTracker(log: GuestDirtyLog(), omitting: omitting)
    try tracker.begin()
    for region in subject.ram.ramRegions { try tracker.regionAdded(region) }
    try tracker.commit()
    container = try tracker.addContainer(subject.container, addressSpace: .remapped)
    consumer = try tracker.log.addConsumer("migration", startsDirty: true)
  }

  func run() throws {
    try order(.clearJournal)
    for _ in 0..<12 { try step() }
    notes += tracker.startTracking().notes
    for round in 1...Self.roundCount {
      self.round = round
      for _ in 0..<60 { try step() }
      try readJournal()
      try send(isFinal: false)
    }
    for _ in 0..<60 { try step() }
    try readJournal()
    finalPinned = Set(pinned.keys.compactMap(gpaPage))
    try send(isFinal: true)
    counts = try subject.device.status()
    // As a migration ends: its reader goes first.
    tracker.log.removeConsumer(consumer)
    notes += tracker.stopTracking().notes
    differentPageCount = zip(subject.ram.pageDigests(), destination.pageDigests())
      .count { $0 != $1 }
    try tracker.iommuUnmap(container, .wholeSpace)
  }

  func report(into result: inout LabResult) {
    let name = "story of seed \(seed)"
    result.check(
      "\(name): each of \(writtenCount) pages the journal names was sent after it was written",
      writtenCount > 100 && unsent.isEmpty, "\(lostPages)")
    result.expect("\(name): pages that differ", differentPageCount, is: 0)
    result.expect("\(name): pages pinned all along, sent again before the end", resentPinned, is: 0)
    result.check(
      "\(name): what is pinned at the end is sent then (\(finalPinned.count) pages)",
      !finalPinned.isEmpty && finalPinned.isSubset(of: finalSent))
    result.check(
      "\(name): \(unmapCount) unmaps took pins away, and the device was told",
      counts.map { $0.unmapCallbacks > 0 && $0.unmappedPins > 0 } ?? false)
    result.check("\(name): nothing went wrong", notes.isEmpty, notes.joined(separator: "; "))
  }

  // MARK: what the guest and its device do

  private func step() throws {
    switch random.below(10) {
    case 0, 1: try map()
    case 2: try unmap()
    case 3, 4: try pin()
    case 5: try unpin()
    case 6, 7, 8: try write()
    default: try writeUnpinned()
    }
  }

  private func map() throws {
    let slot = random.below(Self.slotCount)
    guard live[slot] == nil else { return }
    let used = Set(live.values.map(\.gpaSlot))
    let free = (0..<Self.slotCount).filter { !used.contains($0) }
    let gpaSlot = free[random.below(free.count)]
    let pageCount = 1 + random.below(Self.slotPages)
    try tracker.iommuMap(
      container, pages(slot * Self.slotPages, pageCount),
      to: GPA(gpaSlot * Self.slotPages * 4096), permissions: .readWrite)
    live[slot] = (gpaSlot, pageCount)
  }

  /// One mapping, or all in a stretch.
  private func unmap() throws {
    try readJournal()
    let first = random.below(Self.slotCount)
    let count = random.once(in: 4) ? min(4, Self.slotCount - first) : 1
    let gone = (first..<first + count).filter { live[$0] != nil }
    guard !gone.isEmpty else { return }
    if gone.contains(where: { slot in pinned.keys.contains { $0 / Self.slotPages == slot } }) {
      unmapCount += 1
    }
    try tracker.iommuUnmap(container, pages(first * Self.slotPages, count * Self.slotPages))
    for slot in gone {
      live[slot] = nil
      pinned = pinned.filter { $0.key / Self.slotPages != slot }
    }
  }

  private func pin() throws {
    guard let page = mappedPage(), pinned[page] == nil else { return }
    try order(.pin, page)
    pinned[page] = round
  }

  private func unpin() throws {
    guard let page = anyPinned() else { return }
    try order(.unpin, page)
    pinned[page] = nil
  }

  private func write() throws {
    guard let page = anyPinned() else { return }
    try order(.writePinned, page)
  }

  private func writeUnpinned() throws {
    guard let page = mappedPage() else { return }
    try order(.writeUnpinned, page)
  }

  private func mappedPage() -> UInt64? {
    guard !live.isEmpty else { return nil }
    let slot = live.keys.sorted()[random.below(live.count)]
    return slot * Self.slotPages + random.below(live[slot]?.pageCount ?? 1)
  }

  private func anyPinned() -> UInt64? {
    pinned.isEmpty ? nil : pinned.keys.sorted()[random.below(pinned.count)]
  }

  private func order(_ operation: PinningDevice.Operation, _ page: UInt64? = nil) throws {
    value += 1
    let errno = subject.device.order(
      operation, page.map { Script.base + $0 * 4096 } ?? 0, byteCount: page == nil ? 0 : 4096,
      value: value)
    if errno != 0 { throw LabError("the device's \(operation): \(Errno.name(errno))") }
  }

  private func pages(_ first: UInt64, _ count: UInt64) -> IOVARange {
    let base = Script.base + first * 4096
    return AddressRange(first: IOVA(base), last: IOVA(base + count * 4096 - 1))
  }

  private func gpaPage(_ page: UInt64) -> UInt64? {
    live[page / Self.slotPages].map { $0.gpaSlot * Self.slotPages + page % Self.slotPages }
  }

  // MARK: what is checked

  /// Before a translation changes, so that each write is credited to the page it reached.
  private func readJournal() throws {
    let events = try subject.device.journal(from: journalRead)
    journalRead += UInt64(events.count)
    for event in events where event.kind == .wrote || event.kind == .wroteUnpinned {
      guard let page = gpaPage((event.iova - Script.base) / 4096) else {
        throw LabError("the device wrote IOVA \(event.iova), which is not mapped")
      }
      unsent.insert(page)
      writtenCount += 1
    }
  }

  private func send(isFinal: Bool) throws {
    notes += tracker.sync(isFinal: isFinal).notes
    var sent: Set<UInt64> = []
    while true {
      let harvest = tracker.log.harvest(for: consumer, pageCountMax: 4096, runCountMax: 4096)
      for run in harvest.runs {
        _ = subject.ram.withBytes(of: run) { destination.write($0, at: run.first) }
        sent.formUnion(run.first.rawValue / 4096...run.last.rawValue / 4096)
      }
      tracker.log.delivered(harvest)
      if harvest.isLast { break }
    }
    unsent.subtract(sent)
    if isFinal { finalSent = sent }
    // Round 1 sends all of RAM.
    guard !isFinal, round > 1 else { return }
    for (page, since) in pinned where since < round - 1 {
      if let page = gpaPage(page), sent.contains(page) { resentPinned += 1 }
    }
  }
}
