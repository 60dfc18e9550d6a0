import Addressing
import DMAContainer
import Foundation
import Glibc
import Simulation
import Locking
import Synchronization
import TestSupport

/// Devices write while another thread maps, unmaps and syncs, as a guest and a migration do. What
/// was reported is copied, after it was reported; at the end the copy must be the memory.
final class ContainerRace: Sendable {
  private struct Tracker {
    let driver: ContainerDriver
    var random: SeededGenerator
    /// 32 bytes of each page, by GPA page.
    var copy: [UInt64: [UInt8]] = [:]
    var failure: (any Error)?
  }

  private let memory: ContainerTestMemory
  private let port: any DMAPort
  private let seed: UInt64
  private let tracker: Locking.Mutex<Tracker>
  private let writes = Atomic<Int>(0)
  /// Writes tried, refused ones counted.
  private let tries = Atomic<Int>(0)
  private let isOver = Atomic<Bool>(false)
  /// Steps of the tracker's thread.
  private let steps = Atomic<Int>(0)
  private static let triesPerStep = 8

  init(
    _ container: any DMAContainer, _ port: any DMAPort, _ memory: ContainerTestMemory,
    seed: UInt64
  ) {
    self.memory = memory
    self.port = port
    self.seed = seed
    self.tracker = Locking.Mutex(
      Tracker(driver: ContainerDriver(container), random: SeededGenerator(seed: seed)))
  }

  var writeCount: Int { writes.load(ordering: .relaxed) }

  static func range(_ page: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(page << 12), last: IOVA(((page + pages) << 12) - 1))
  }

  /// Runs it, with a final sync after all devices stopped.
  /// - Returns: GPA pages whose copy is stale.
  func stalePages() throws -> [UInt64] {
    try tracker.withLock { try $0.driver.start(logging: [Self.range(0x100, 0x100)]) }
    let devices = DispatchGroup()
    for device in 1...2 {
      devices.enter()
      Thread.detachNewThread { [self] in
        write(device: device)
        devices.leave()
      }
    }
    tracker.withLock { tracker in
      do { try run(&tracker) } catch { tracker.failure = error }
    }
    isOver.store(true, ordering: .releasing)
    devices.wait()
    return try tracker.withLock { tracker in
      if let failure = tracker.failure { throw failure }
      take(try tracker.driver.sync(), &tracker)
      let first = memory.gpa.first.rawValue >> 12
      return (first..<first + 256).filter { page in
        let zero = [UInt8](repeating: 0, count: 32)
        return memory.bytes(at: GPA(page << 12), count: 32) != tracker.copy[page] ?? zero
      }
    }
  }

  private func take(_ dirty: [UInt64: UInt64], _ tracker: inout Tracker) {
    for page in Set(dirty.values) {
      tracker.copy[page] = memory.bytes(at: GPA(page << 12), count: 32)
    }
  }

  /// Each write is newer than all before it.
  private func write(device: Int) {
    var random = SeededGenerator(seed: seed + UInt64(device))
    var value: UInt64 = 0
    while !isOver.load(ordering: .acquiring) {
      // Not far ahead either, or all is written before anything is mapped.
      if tries.load(ordering: .relaxed) > (steps.load(ordering: .relaxed) + 8) * Self.triesPerStep {
        sched_yield()
        continue
      }
      value += 1
      let page = 0x100 + random.below(0x40 as UInt64)
      let bytes = (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
      let address = IOVA(page << 12 | UInt64(device * 8))
      if port.write(bytes, at: address) != nil { writes.add(1, ordering: .relaxed) }
      tries.add(1, ordering: .relaxed)
    }
  }

  private func run(_ tracker: inout Tracker) throws {
    for step in 0..<600 {
      // The threads stay together, however few processors there are.
      steps.store(step, ordering: .relaxed)
      while tries.load(ordering: .relaxed) < step * Self.triesPerStep { sched_yield() }
      let page = 0x100 + tracker.random.below(0x40 as UInt64)
      switch tracker.random.below(8) {
      case 0: take(try tracker.driver.sync(), &tracker)
      case 1, 2:
        guard let mapping = tracker.driver.mappings.randomElement(using: &tracker.random) else {
          continue
        }
        take(
          try tracker.driver.unmap(mapping.iova, accountsForTheWindow: true).dirty, &tracker)
      default:
        let iova = Self.range(page, 1 + tracker.random.below(8 as UInt64))
        guard !tracker.driver.mappings.contains(where: { $0.iova.overlaps(iova) }) else {
          continue
        }
        let ram = tracker.random.below(248 as UInt64)
        try tracker.driver.map(iova, to: GPA(memory.gpa.first.rawValue + (ram << 12)))
      }
    }
  }
}
