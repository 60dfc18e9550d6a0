import Addressing

extension IOMMUGenerator {
  /// One map, or one exact unmap; old mappings go first, mostly.
  mutating func strictStep() {
    let target = liveCountMax / 2
    if live.isEmpty || (live.count < liveCountMax && random.below(2 * target) >= live.count) {
      mapSomewhere(somePageCount())
    } else {
      unmap(at: random.once(in: 4) ? random.below(live.count) : 0)
    }
  }

  /// Fills one window of 2 MiB after another and lets the oldest go whole.
  mutating func lazyStep() {
    if live.count >= liveCountMax / 2 || takeWholeWindow() == nil {
      releaseOldestWindow()
    }
    guard let first = takeWholeWindow() else { return }
    freeSlots.removeAll { $0 >= first && $0 < first + Self.windowSlotCount }
    for slot in (first..<(first + Self.windowSlotCount)).reversed() {
      // A slot left out is a hole that the invalidation spans.
      if slot != first, random.once(in: 5) { continue }
      let pages = somePages(somePageCount())
      let iova = range(slot: slot, pageCount: pages.pageCount)
      live.append(Live(iova: iova, slot: slot))
      emit(.map(iova, gpa: pages.gpa, somePermissions()))
    }
  }

  /// The first slot of a window of which every slot is free, the highest such.
  private func takeWholeWindow() -> Int? {
    var freeIn = Array(repeating: 0, count: windowCount)
    for slot in freeSlots { freeIn[slot / Self.windowSlotCount] += 1 }
    guard let window = freeIn.lastIndex(of: Self.windowSlotCount) else { return nil }
    return window * Self.windowSlotCount
  }

  private mutating func releaseOldestWindow() {
    guard let oldest = live.first else { return }
    let first = oldest.slot / Self.windowSlotCount * Self.windowSlotCount
    let window = range(
      slot: first, pageCount: Self.slotPageCount &* UInt64(Self.windowSlotCount))
    live.removeAll { window.contains($0.iova) }
    freeSlots.append(contentsOf: first..<(first + Self.windowSlotCount))
    emit(.unmap(window))
    // A second invalidation of what is gone already, as a flush queue makes them.
    if random.once(in: 3) { emit(.unmap(window)) }
  }

  mutating func stormStep() {
    let count = min(64, liveCountMax - live.count)
    let kept = live.count
    for _ in 0..<count { mapSomewhere(1) }
    if let unused = freeSlots.first { emit(.unmap(range(slot: unused, pageCount: 7))) }
    if random.once(in: 8) {
      emit(.unmap(.wholeSpace))
      freeSlots.append(contentsOf: live.map(\.slot))
      live.removeAll(keepingCapacity: true)
      return
    }
    while live.count > kept { unmap(at: kept + random.below(live.count - kept)) }
    // What is left from before would else never go.
    if kept > 0 { unmap(at: 0) }
  }

  mutating func remapStep(unmapsFirst: Bool) {
    guard live.count >= liveCountMax / 4 else { return mapSomewhere(somePageCount()) }
    if random.once(in: 16) { return unmap(at: random.below(live.count)) }
    let iova = live[random.below(live.count)].iova
    let wanted = iova.pageCount(.fourKiB)
    let pages = somePages(wanted)
    // Near the end of a region there are too few pages for it: another time.
    guard pages.pageCount == wanted else { return }
    if unmapsFirst { emit(.unmap(iova)) }
    emit(.map(iova, gpa: pages.gpa, somePermissions()))
  }

  /// Sixteen pages behind all IOVAs.
  mutating func aliasStep() {
    guard live.count < liveCountMax / 2, !freeSlots.isEmpty else {
      for _ in 0..<min(8, live.count) { unmap(at: random.below(live.count)) }
      return
    }
    let slot = freeSlots.removeLast()
    let stride = max(layout.pageCount / 16, 1)
    let page = random.below(min(16, layout.pageCount)) &* stride
    let iova = range(slot: slot, pageCount: 1)
    live.append(Live(iova: iova, slot: slot))
    emit(.map(iova, gpa: layout.gpa(ofPage: page), somePermissions()))
  }

  /// Maps of eight pages lose one to three from somewhere, and later the rest.
  mutating func bisectStep() {
    guard live.count >= liveCountMax / 4 else { return mapSomewhere(8) }
    let index = random.below(live.count)
    let count = live[index].iova.pageCount(.fourKiB)
    guard random.below(4) != 0, count > 3 else { return unmap(at: index) }
    let offset = random.below(count &- 3)
    emit(
      .unmap(
        range(
          slot: live[index].slot, pageOffset: offset, pageCount: 1 &+ random.below(UInt64(3)))))
  }

  mutating func passThroughStep() {
    guard random.once(in: 200) else { return strictStep() }
    drain()
    emit(.passThrough(true))
    for _ in 0..<(20 + random.below(60)) { emit(.idle) }
    emit(.passThrough(false))
  }
}
