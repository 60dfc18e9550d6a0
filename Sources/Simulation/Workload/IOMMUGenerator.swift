import Addressing

/// Makes the events of one behaviour.
///
/// IOVAs are taken from slots of 32 pages under 4 GiB, highest first as Linux does, so that a slot
/// never holds two mappings and a slot given back is soon used again for another page.
struct IOMMUGenerator: Sendable {
  static let slotPageCount: UInt64 = 32
  static let slotByteCount: UInt64 = slotPageCount &* 4096
  /// Slots of one invalidation of a lazy guest: a window of 2 MiB.
  static let windowSlotCount = 16

  struct Live: Sendable {
    var iova: IOVARange
    var slot: Int
  }

  let behaviour: IOMMUBehaviour
  let layout: GuestLayout
  let liveCountMax: Int
  let windowCount: Int
  var random: SplitMix64
  /// Oldest first, mostly.
  var live: [Live] = []
  /// Taken from the end.
  var freeSlots: [Int]
  private var events: [IOMMUEvent] = []
  private var eventNext = 0
  private var phase = IOMMUBehaviour.strict
  /// Events left of this phase of `mixed`, about.
  private var phaseRest = 0

  init(behaviour: IOMMUBehaviour, seed: UInt64, layout: GuestLayout, liveCountMax: Int = 256) {
    self.behaviour = behaviour
    self.layout = layout
    self.liveCountMax = liveCountMax
    random = SplitMix64(seed: seed).derived(for: 0x10_33)
    // More than twice what is live at most, in whole windows.
    windowCount = 2 * liveCountMax / Self.windowSlotCount + 2
    freeSlots = Array(0..<(windowCount * Self.windowSlotCount))
    phase = behaviour == .mixed ? .strict : behaviour
  }

  mutating func next() -> IOMMUEvent {
    if eventNext == events.count {
      events.removeAll(keepingCapacity: true)
      eventNext = 0
      refill()
    }
    defer { eventNext += 1 }
    return events[eventNext]
  }

  mutating func emit(_ event: IOMMUEvent) { events.append(event) }

  /// Adds one event at least.
  private mutating func refill() {
    if behaviour == .mixed, phaseRest <= 0 {
      drain()
      let choices: [IOMMUBehaviour] = [.strict, .lazy, .storm, .remap, .alias, .passThrough]
      phase = choices[random.below(choices.count)]
      phaseRest = 400 + random.below(800)
    }
    switch phase {
    case .strict, .mixed: strictStep()
    case .lazy: lazyStep()
    case .storm: stormStep()
    case .remap: remapStep(unmapsFirst: true)
    case .remapInPlace: remapStep(unmapsFirst: false)
    case .alias: aliasStep()
    case .bisect: bisectStep()
    case .passThrough: passThroughStep()
    }
    if events.isEmpty { emit(.idle) }
    phaseRest -= events.count
  }

  /// Unmaps all that is live, exactly.
  mutating func drain() {
    for entry in live { emit(.unmap(entry.iova)) }
    live.removeAll(keepingCapacity: true)
    freeSlots = Array(0..<(windowCount * Self.windowSlotCount))
  }

  // MARK: choices

  func range(slot: Int, pageOffset: UInt64 = 0, pageCount: UInt64) -> IOVARange {
    // Slot 0 is the lowest; all of them end at 4 GiB, far above 0.
    let slotCount = UInt64(windowCount * Self.windowSlotCount)
    let base = (UInt64(1) << 32) &- slotCount &* Self.slotByteCount
    let first = base &+ UInt64(slot) &* Self.slotByteCount &+ pageOffset &* 4096
    return AddressRange(first: IOVA(first), last: IOVA(first &+ pageCount &* 4096 &- 1))
  }

  /// The first page of `pageCount` or fewer that lie in one region.
  mutating func somePages(_ pageCount: UInt64) -> (gpa: GPA, pageCount: UInt64) {
    let page = random.below(layout.pageCount)
    let end = layout.region(ofPage: page).endPage
    return (layout.gpa(ofPage: page), min(pageCount, end &- page))
  }

  /// Mostly one page, as a block layer's; sometimes up to a slot.
  mutating func somePageCount() -> UInt64 {
    random.below(4) == 0 ? 1 &+ random.below(Self.slotPageCount) : 1
  }

  mutating func somePermissions() -> Permissions {
    switch random.below(8) {
    case 0: .read
    case 1: .write
    default: .readWrite
    }
  }

  /// Maps fresh pages in a free slot. Nothing when no slot is free.
  mutating func mapSomewhere(_ pageCount: UInt64) {
    guard let slot = freeSlots.popLast() else { return }
    let pages = somePages(pageCount)
    let iova = range(slot: slot, pageCount: pages.pageCount)
    live.append(Live(iova: iova, slot: slot))
    emit(.map(iova, gpa: pages.gpa, somePermissions()))
  }

  mutating func unmap(at index: Int) {
    let entry = live.remove(at: index)
    emit(.unmap(entry.iova))
    freeSlots.append(entry.slot)
  }
}
