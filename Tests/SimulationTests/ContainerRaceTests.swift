import Simulation
import TestSupport
import Testing

@Suite struct ContainerRaceTests {
  @Test(arguments: ContainerKind.allCases)
  func `what devices write while mappings come and go is reported`(kind: ContainerKind) throws {
    let seed = TestSeed.seed(default: 77)
    let (container, port, memory) = kind.make()
    let race = ContainerRace(container, port, memory, seed: seed)
    let stale = try race.stalePages()
    #expect(stale == [], "\(TestSeed.reproduce(seed, filter: "ContainerRaceTests"))")
    #expect(race.writeCount > 0)
  }

  @Test func `the race notices an unmap that forgets`() throws {
    let (container, port, memory) = ContainerKind.type1Pinned.make()
    let liar = ContainerImpostor(container, .forgetsDirtAtUnmap)
    #expect(try ContainerRace(liar, port, memory, seed: 77).stalePages() != [])
  }
}
