import Addressing
import Simulation
import Testing

@Suite struct GuestLayoutTests {
  @Test func `every small layout numbers each page once, in order, around the hole`() {
    for pageCount in UInt64(2)...9 {
      for lowPages in UInt64(1)...6 {
        for nodes in [[], [0], [0, 1], [0, 1, 2]] where nodes.count <= 2 || pageCount >= 4 {
          let layout = GuestLayout(
            byteCount: pageCount * 4096, lowByteCountMax: lowPages * 4096, nodes: nodes)
          #expect(layout.pageCount == pageCount)
          #expect(layout.regions.count == max(nodes.count, 2))
          #expect(layout.regions.allSatisfy { $0.pageCount > 0 })
          #expect(layout.regions[0].gpa.first == GPA(0))
          #expect(layout.regions[1].gpa.first == GuestLayout.aboveHole)
          var previous: GPA?
          for page in 0..<pageCount {
            let gpa = layout.gpa(ofPage: page)
            #expect(
              layout.page(of: gpa) == page && layout.page(of: GPA(gpa.rawValue + 4095)) == page)
            if let previous { #expect(previous < gpa) }
            previous = gpa
          }
        }
      }
    }
  }

  @Test func `what lies in the hole, past RAM or across a region's end is in no region`() throws {
    let layout = GuestLayout(byteCount: 1 << 30)
    #expect(layout.regions.map(\.pageCount) == [131072, 131072])
    #expect(layout.page(of: GPA(512 << 20)) == nil)
    #expect(layout.page(of: GPA((4 << 30) + (512 << 20))) == nil)
    let across = AddressRange(first: GPA((512 << 20) - 1), last: GPA(512 << 20))
    #expect(layout.region(holding: across) == nil)
    #expect(layout.region(holding: .wholeSpace) == nil)
    #expect(layout.region(ofPage: 131072).name == "ram-above-4g")
  }
}
