import DMAContainer
import TestSupport
import Testing
import VFIOKernel

/// The suite every container passes, over requests that were made into bytes and taken apart again
/// by the offsets of the kernel's headers.
@Suite struct Type1ConformanceTests {
  @Test(arguments: Type1World.Kind.allCases)
  func `type1 over the kernel's interface keeps what a container promises`(
    kind: Type1World.Kind
  ) throws {
    let worlds = try ContainerConformance.checks.map { _ in try Type1World(kind) }
    var index = -1
    let problems = ContainerConformance.problems {
      index += 1
      return worlds[index].fixture()
    }
    #expect(problems == [])
  }

  @Test func `so does one without unmap all, on a kernel whose sums wrap`() throws {
    var options = FakeContainer.Options()
    options.hasUnmapAll = false
    options.isSoundAtTheTop = false
    let worlds = try ContainerConformance.checks.map { _ in
      try Type1World(.pinned, options: options)
    }
    var index = -1
    let problems = ContainerConformance.problems {
      index += 1
      return worlds[index].fixture()
    }
    #expect(problems == [])
  }

  @Test(arguments: Type1World.Kind.allCases)
  func `each kind has the logs and the scope it should`(kind: Type1World.Kind) throws {
    let world = try Type1World(kind)
    let scopes = world.container.dirtyLogs.map(\.capabilities.scope)
    let expected: [DirtyScope] =
      switch kind {
      case .pinned: [.pinned]
      case .everythingMapped, .noTracker: [.everythingMapped]
      case .deviceLog: [.deviceLog]
      case .mixed: [.everythingMapped, .deviceLog]
      }
    #expect(scopes == expected)
    let isAtomic = kind != .noTracker && kind != .deviceLog
    #expect(world.container.capabilities.hasAtomicUnmap == isAtomic)
    #expect(world.container.takeWarnings().isEmpty == (kind != .noTracker))
    #expect(world.container.takeWarnings() == [])
  }
}
