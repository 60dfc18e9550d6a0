import DeviceMigration
import Simulation
import TestSupport

/// Two hosts, and the guest that goes back and forth between them.
final class MovePair {
  /// What became of one migration.
  struct Outcome {
    var attempt = MigrationAttempt()
    /// Pages that differ at the moment when neither side runs.
    var pagesDifferent = 0
    var isStateEqual = true

    var sourceError: MigrationError? { attempt.sourceError }
    var destinationError: MigrationError? { attempt.destinationError }
    var report: MigrationReport? { attempt.report }
    var hasMoved: Bool { sourceError == nil && destinationError == nil }
    var isEqual: Bool { pagesDifferent == 0 && isStateEqual }
    var description: String {
      let errors = [sourceError, destinationError].compactMap { $0.map { "\($0)" } }
      return errors.isEmpty
        ? "\(pagesDifferent) pages differ, state is \(isStateEqual ? "equal" : "different")"
        : errors.joined(separator: " / ")
    }
  }

  private(set) var source: MoveSide
  private(set) var destination: MoveSide
  let guest: MoveGuest

  init(_ first: MoveSide, _ second: MoveSide, seed: UInt64) throws {
    (source, destination) = (first, second)
    guest = MoveGuest(first, seed: seed)
    first.ram.fill(seed: seed)
    first.machine.boot()
    for slot in 0..<MoveSide.slotCount { try first.map(slot, to: guest.anyGPA()) }
    for _ in 0..<200 { guest.act() }
  }

  /// One attempt; the sides change their parts when it succeeds.
  /// - Parameter cancelAt: the event at which it is cancelled, counted from 1.
  func move(cancelAt: Int? = nil) -> Outcome {
    var outcome = Outcome()
    let migration = MigrationSource(
      machine: source.machine, tracking: source.tracker, memory: source.ram,
      // v1 has no P2P state; neither device writes to the other.
      devices: source.devices.map { MigratingDevice($0, startsPeerToPeer: !source.way.hasRegion) },
      policy: Self.policy,
      clock: nanoseconds, observer: guest)
    guest.expect(cancelAt: cancelAt, migration.cancellation)
    let arrival = MigrationDestination(
      machine: destination.machine, memory: destination.ram,
      regions: destination.ram.ramRegions, devices: destination.devices)
    outcome.attempt = MemoryLink().run(migration, to: arrival)
    if migration.isOutcomeUnknown {
      _ = migration.resolve(destinationRuns: arrival.isGuestRunning)
    }
    if outcome.hasMoved { compare(&outcome) }
    return outcome
  }

  private static var policy: MigrationPolicy {
    var policy = MigrationPolicy()
    policy.downtimeLimitNanoseconds = 1
    policy.roundCountMin = 2
    policy.notConverging = .stopAnyway(afterRounds: 2)
    policy.harvestPageCountMax = 512
    policy.devicePrecopyThresholdBytes = 0
    return policy
  }

  private func compare(_ outcome: inout Outcome) {
    guard let there = source.picture, let here = destination.picture else {
      outcome.isStateEqual = false
      return
    }
    outcome.pagesDifferent = zip(there.pages, here.pages).count { $0 != $1 }
    outcome.isStateEqual =
      there.deviceMemory == here.deviceMemory && there.scratch == here.scratch
      && there.pages.count == here.pages.count
  }

  /// After a migration that succeeded: the guest is at home on the other side, and this one waits
  /// for it to come back.
  func changeSides() throws {
    (source, destination) = (destination, source)
    guest.side = source
    try destination.empty()
  }

  /// After one that failed: what arrived in part is thrown away. A device that had to be reset is
  /// set up again by its driver.
  func tryAgain() throws {
    source.calls.plan(failAt: nil)
    try destination.empty()
    try source.pinning.clearOrders()
    try destination.pinning.clearOrders()
    _ = source.startDMA()
    for _ in 0..<20 { guest.act() }
  }
}
