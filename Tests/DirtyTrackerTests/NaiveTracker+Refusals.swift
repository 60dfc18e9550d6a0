import Addressing
import DMAContainer
import DirtyTracker
import Simulation

/// What each refusal promises of the mappings. The model goes by the promise; the check is that
/// table and backend do as well.
extension NaiveTracker {
  mutating func map(
    _ page: UInt64, _ count: UInt64, to gpa: UInt64, _ permissions: Permissions,
    _ refusal: TrackerError?, _ world: World
  ) {
    var isMapped = refusal == nil
    switch refusal {
    case nil, .mapFailed?, .mapping?: break
    case .remapFailed(let range, _)?: remove(range)
    case .mapNotTakenBack?: isMapped = true
    // The mappings that were to go first.
    case .unmapFailed?, .keptPartLost?: unmap(page, count, refusal, world)
    default: problem = problem ?? "a map is refused by \(refusal!)"
    }
    guard isMapped else { return }
    for offset in 0..<count {
      mapped[page + offset] = Target(gpaPage: gpa + offset, permissions: permissions)
      if permissions.contains(.write) { everWritable.insert(gpa + offset) }
    }
  }

  mutating func unmap(
    _ page: UInt64, _ count: UInt64, _ refusal: TrackerError?, _ world: World
  ) {
    switch refusal {
    case nil: remove(World.iova(page, count))
    case .unmapFailed(let error)?:
      if error.isPartial { backendMayLack = true }
      guard world.isTracking else { break }
      // It counts as mapped still, and its pages as dirty.
      let writable = (page..<page + count).compactMap { mapped[$0] }
        .filter { $0.permissions.contains(.write) }
      let clean = Set(writable.map(\.gpaPage)).subtracting(world.dirty)
      if !clean.isEmpty { problem = problem ?? "\(error): \(clean) are clean" }
    case .keptPartLost(let part, _)?:
      remove(World.iova(page, count))
      remove(part)
      // Where the part on the other side is lost as well, a note names it.
      world.reports.append(world.tracker.takeReport(world.id))
      let table = world.tracker.mappings(of: world.id)
      for lost in mapped.keys where !table.contains(where: { $0.iova.contains(IOVA(lost << 12)) }) {
        if world.notes.contains(where: { $0.contains("rest of a mapping") }) { mapped[lost] = nil }
      }
    case .mapping?: break
    default: problem = problem ?? "an unmap is refused by \(refusal!)"
    }
  }

  private mutating func remove(_ range: IOVARange) {
    for page in mapped.keys where range.contains(IOVA(page << 12)) { mapped[page] = nil }
    if mapped.isEmpty { backendMayLack = false }
  }

  /// What differs from the tracker's table, from what the devices reach, or what a refusal promised
  /// and did not hold.
  func difference(_ world: World) -> String? {
    if let problem { return problem }
    if let difference = difference(world.tracker.mappings(of: world.id)) { return difference }
    for page in 0..<Session.iovaPages {
      let reached = world.ports[0].page(behind: IOVA(page << 12))
      let expected = mapped[page]?.gpaPage
      if reached != expected, reached != nil || !backendMayLack {
        return "IOVA page \(page) leads to \(reached as Any), mapped to \(expected as Any)"
      }
    }
    return nil
  }
}

extension World {
  var isTracking: Bool { tracker.containers.first?.isTracking == true }

  /// After all that went wrong: everything can be unmapped, tracked again and mapped again, every
  /// log runs, and knows one write from none.
  /// - Returns: what is wrong, empty when nothing is.
  func flawsAfterRecovery() -> [String] {
    faults.reset()
    var flaws: [String] = []
    if let refusal = refusalToUnmap(.wholeSpace) { flaws.append("\(refusal)") }
    if (0..<Session.iovaPages).contains(where: { ports[0].page(behind: IOVA($0 << 12)) != nil }) {
      flaws.append("the backend holds mappings after everything was unmapped")
    }
    if !tracker.mappings(of: id).isEmpty { flaws.append("the table is not empty") }
    // From an empty table on, what the backend lacks is known again.
    _ = tracker.stopTracking()
    start()
    _ = tracker.stopTracking()
    if let refusal = refusalToMap(0, 4, to: 4) { flaws.append("\(refusal)") }
    start()
    let scopes = tracker.containers[0].scopes
    if scopes.contains(where: { $0.contains("degraded") }) { flaws.append("\(scopes)") }
    harvest()
    write(1)
    sync()
    let found = harvest()
    let neighbours: Set<UInt64> = kind == .type1DevicePages ? [4, 5, 6, 7] : [5]
    if kind.isExact, !found.contains(5) || !found.isSubset(of: neighbours) {
      flaws.append("after a write to page 5 \(found) are dirty")
    }
    return flaws
  }
}

extension ContainerKind {
  /// What its logs report without a final sync is what was written.
  var isExact: Bool {
    switch self {
    case .type1, .type1Pinned, .type1Mixed, .iommufdNothing: false
    default: true
    }
  }
}
