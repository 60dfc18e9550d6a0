import DMAContainer
import Simulation
import TestSupport
import Testing

@Suite struct ContainerConformanceTests {
  @Test(arguments: ContainerKind.allCases)
  func `every simulated kind keeps what a container promises`(kind: ContainerKind) {
    #expect(ContainerConformance.problems(kind.fixture) == [])
  }

  /// `startsDirty` needs a log that a second start does not clear: the other kinds refuse it or
  /// clear.
  @Test(arguments: ContainerImpostor.Lie.allCases)
  func `the suite notices each broken promise`(lie: ContainerImpostor.Lie) {
    let kind: ContainerKind = lie == .startsDirty ? .iommufdDeviceLog : .iommufdTracking
    let problems = ContainerConformance.problems {
      let (container, port, memory) = kind.make()
      return ContainerKind.fixture(ContainerImpostor(container, lie), port, memory)
    }
    #expect(problems != [])
  }

  @Test func `the suite notices an atomic unmap that forgets`() {
    for lie in [ContainerImpostor.Lie.forgetsDirtAtUnmap, .reportsNothing, .miscountsBytes] {
      let problems = ContainerConformance.problems {
        let (container, port, memory) = ContainerKind.type1Pinned.make()
        return ContainerKind.fixture(ContainerImpostor(container, lie), port, memory)
      }
      #expect(problems != [], "\(lie)")
    }
  }
}
