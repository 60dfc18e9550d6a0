import Addressing
import IOVAMapping
import Simulation
import TestSupport
import Testing

@Suite struct WorkloadStreamTests {
  let layout = GuestLayout(byteCount: 4096 * 4096)

  func events(
    _ behaviour: IOMMUBehaviour, seed: UInt64, count: Int = 6000, layout: GuestLayout? = nil
  ) -> [IOMMUEvent] {
    var stream = IOMMUStream(behaviour: behaviour, seed: seed, layout: layout ?? self.layout)
    return (0..<count).map { _ in stream.next() ?? .idle }
  }

  /// How many events a table of this policy refuses.
  func refusals(_ events: [IOMMUEvent], policy: BisectPolicy, layout: GuestLayout) -> Int {
    var table = MappingTable(policy: policy)
    var isPassThrough = false
    var refused = 0
    for event in events {
      do {
        switch event {
        case .map(let iova, let gpa, let permissions):
          let pages = GPARange(first: gpa, byteCount: (iova.byteCount ?? 0))
          #expect(pages.flatMap(layout.region(holding:)) != nil, "\(event) lies in RAM")
          #expect(!isPassThrough, "\(event) in pass-through")
          try table.map(iova, to: gpa, permissions: permissions)
        case .unmap(let iova): try table.unmap(iova)
        case .passThrough(let isOn):
          #expect(table.count == 0, "pass-through is switched with nothing mapped")
          #expect(isOn != isPassThrough)
          isPassThrough = isOn
        case .idle: break
        }
      } catch {
        refused += 1
      }
    }
    table.checkInvariants()
    return refused
  }

  @Test(arguments: IOMMUBehaviour.allCases)
  func `a stream is accepted by the tables it promises to be`(behaviour: IOMMUBehaviour) {
    let seed = TestSeed.seed(default: 21)
    let made = events(behaviour, seed: seed)
    for policy in [BisectPolicy.refuse, .split] {
      let refused = refusals(made, policy: policy, layout: layout)
      #expect(
        (refused == 0) == behaviour.isAccepted(by: policy),
        "\(refused) refused; \(TestSeed.reproduce(seed, filter: "WorkloadStream"))")
    }
  }

  @Test(arguments: IOMMUBehaviour.allCases)
  func `guests of a few pages have traffic too`(behaviour: IOMMUBehaviour) {
    for pageCount in UInt64(2)...6 {
      for seed in UInt64(0)..<4 {
        let small = GuestLayout(byteCount: pageCount * 4096)
        let made = events(behaviour, seed: seed, count: 1200, layout: small)
        let refused = refusals(made, policy: .split, layout: small)
        #expect(refused == 0 || !behaviour.isAccepted(by: .split))
        #expect(made.contains { if case .map = $0 { true } else { false } })
      }
    }
  }

  @Test(arguments: IOMMUBehaviour.allCases)
  func `one seed is one stream, and another seed another`(behaviour: IOMMUBehaviour) {
    #expect(events(behaviour, seed: 3, count: 2000) == events(behaviour, seed: 3, count: 2000))
    #expect(events(behaviour, seed: 3, count: 2000) != events(behaviour, seed: 4, count: 2000))
  }

  /// What unmaps meet, and what maps share.
  struct Shape {
    var mapCount = 0
    var exactUnmaps = 0
    var spanningUnmaps = 0
    var holedUnmaps = 0
    var emptyUnmaps = 0
    var aliases = 0
    var liveMax = 0
    var switches = 0
    var remaps = 0

    init(_ events: [IOMMUEvent]) {
      var table = MappingTable(policy: .split)
      var previous: IOMMUEvent?
      for event in events {
        switch event {
        case .map(let iova, let gpa, let permissions):
          mapCount += 1
          if previous == .unmap(iova) { remaps += 1 }
          if mapCount % 8 == 0, table.mappings(to: GPARange(first: gpa, last: gpa)).count > 2 {
            aliases += 1
          }
          _ = try? table.map(iova, to: gpa, permissions: permissions)
        case .unmap(let iova):
          var found: [Mapping] = []
          table.forEach(in: iova) { found.append($0) }
          var runs = 0
          table.forEachRun(in: iova) { _ in runs += 1 }
          if found.isEmpty { emptyUnmaps += 1 }
          if found.count == 1, found[0].iova == iova { exactUnmaps += 1 }
          if found.count > 1 { spanningUnmaps += 1 }
          if runs > 1 { holedUnmaps += 1 }
          _ = try? table.unmap(iova)
        case .passThrough: switches += 1
        case .idle: break
        }
        liveMax = max(liveMax, table.count)
        previous = event
      }
    }
  }

  @Test func `each behaviour does what it is named after`() {
    let strict = Shape(events(.strict, seed: 5))
    #expect(strict.spanningUnmaps == 0 && strict.emptyUnmaps == 0 && strict.exactUnmaps > 2000)
    let lazy = Shape(events(.lazy, seed: 5))
    #expect(lazy.exactUnmaps == 0 && lazy.spanningUnmaps > 100)
    #expect(lazy.holedUnmaps > 100 && lazy.emptyUnmaps > 30)
    let storm = Shape(events(.storm, seed: 5))
    #expect(storm.emptyUnmaps > 20 && storm.exactUnmaps > 1000 && storm.spanningUnmaps > 2)
    let remap = Shape(events(.remap, seed: 5))
    #expect(remap.remaps > 1000)
    let alias = Shape(events(.alias, seed: 5))
    #expect(alias.aliases * 9 > alias.mapCount)
    let passThrough = Shape(events(.passThrough, seed: 5))
    #expect(passThrough.switches > 4)
    let mixed = Shape(events(.mixed, seed: 5, count: 40000))
    #expect(mixed.switches > 2 && mixed.holedUnmaps > 50 && mixed.remaps > 200)
    for shape in [strict, lazy, storm, remap, alias, passThrough, mixed] {
      #expect(shape.liveMax >= 64 && shape.liveMax <= 512)
    }
  }

  @Test func `IOVAs are used again for other pages`() {
    var pages: [UInt64: Set<GPA>] = [:]
    for event in events(.strict, seed: 6) {
      if case .map(let iova, let gpa, _) = event {
        pages[iova.first.rawValue, default: []].insert(gpa)
      }
    }
    #expect(pages.values.count { $0.count > 3 } > 50)
  }
}
