/// Pages by who said that they are dirty. Plain counters: a mark must not pay for hashing.
struct SourceCounts {
  private var vcpu: UInt64 = 0
  private var putBack: UInt64 = 0
  private var conservative: UInt64 = 0
  /// Three a container: device query, unmap, conservative.
  private var byContainer: [UInt64] = []

  mutating func add(_ pages: UInt64, by source: DirtySource) {
    guard pages != 0 else { return }
    switch source {
    case .vcpu: vcpu &+= pages
    case .putBack: putBack &+= pages
    case .deviceQuery(let container): add(pages, container, 0)
    case .unmap(let container): add(pages, container, 1)
    case .conservative(let container?): add(pages, container, 2)
    case .conservative(nil): conservative &+= pages
    }
  }

  private mutating func add(_ pages: UInt64, _ container: ContainerID, _ kind: Int) {
    let index = Int(container.rawValue) &* 3 &+ kind
    while byContainer.count <= index { byContainer.append(0) }
    byContainer[index] &+= pages
  }

  static func += (left: inout SourceCounts, right: SourceCounts) {
    left.vcpu &+= right.vcpu
    left.putBack &+= right.putBack
    left.conservative &+= right.conservative
    while left.byContainer.count < right.byContainer.count { left.byContainer.append(0) }
    for index in right.byContainer.indices { left.byContainer[index] &+= right.byContainer[index] }
  }

  /// Sources that found something.
  var pagesBySource: [DirtySource: UInt64] {
    var found: [DirtySource: UInt64] = [:]
    visitAll { source, pages in found[source] = pages }
    return found
  }

  /// In one order, those that are zero left out.
  func visitAll(_ body: (DirtySource, UInt64) -> Void) {
    func visit(_ source: DirtySource, _ pages: UInt64) { if pages != 0 { body(source, pages) } }
    visit(.vcpu, vcpu)
    visit(.putBack, putBack)
    visit(.conservative(nil), conservative)
    for index in byContainer.indices {
      let container = ContainerID(UInt16(index / 3))
      switch index % 3 {
      case 0: visit(.deviceQuery(container), byContainer[index])
      case 1: visit(.unmap(container), byContainer[index])
      default: visit(.conservative(container), byContainer[index])
      }
    }
  }
}
