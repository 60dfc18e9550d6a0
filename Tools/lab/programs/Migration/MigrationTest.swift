import DeviceMigration
import DirtyTracker
import VFIOKernel

/// Section 3.4: mtty and the pinning device go from one type1 container to another and back by the
/// front-end, with real memory that the device goes on writing; cancelled at each step, failing at
/// each step. Where the sides differ is asked of memory and devices, never of the tracker.
enum MigrationTest {
  /// - Parameter arguments: a seed; a way alone, else the two of v2; N to make every Nth call fail
  ///   instead of each; `--plant final-sync` to leave out that step, which must be noticed.
  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    let seed = arguments.first.flatMap { UInt64($0) } ?? 1
    let stride = arguments.dropFirst(2).first.flatMap { Int($0) } ?? 1
    let named = arguments.dropFirst().first.flatMap(MoveWay.init(rawValue:))
    for way in named.map({ [$0] }) ?? [.pinned, .logged] {
      let devices = try MoveDevices(way)
      func pair(
        omitting: Set<TrackerOmission> = [], careless: CarelessRegion.Habit? = nil
      ) throws -> MovePair {
        try devices.pair(seed: seed, omitting: omitting, careless: careless)
      }
      if arguments.contains("--plant") {
        try plain(try pair(omitting: [.finalSync]), way.rawValue, into: &result)
        break
      }
      try plain(try pair(), way.rawValue, into: &result)
      try cancelled(try pair(), way.rawValue, into: &result)
      try ordered(try pair(), way.rawValue, into: &result)
      try calls(try pair(), way.rawValue, stride, into: &result)
      for habit in CarelessRegion.Habit.allCases where way.hasRegion {
        try careless(try pair(careless: habit), habit, into: &result)
      }
      try planted(try pair(omitting: [.finalSync]), into: &result)
      devices.remove()
    }
    return result
  }

  /// The driver refuses what is against the protocol, and the guest stays.
  private static func careless(
    _ pair: MovePair, _ habit: CarelessRegion.Habit, into result: inout LabResult
  ) throws {
    let outcome = pair.move()
    let isNamed = outcome.sourceError.map { "\($0)".contains("pinning") } ?? false
    let refused = try [pair.source, pair.destination].flatMap { try $0.pinning.journal() }
      .count { $0.kind == .refused }
    result.check(
      "a user of the region that \(habit.rawValue) is refused by name, and the guest stays",
      try isNamed && refused > 0 && stayed(pair), "\(refused) refused, \(outcome.description)")
  }

  /// There and back, twice.
  private static func plain(_ pair: MovePair, _ way: String, into result: inout LabResult) throws {
    _ = pair.source.startDMA()
    for number in 1...4 {
      for side in [pair.source, pair.destination] { try side.pinning.clearOrders() }
      let outcome = pair.move()
      result.check(
        "\(way), move \(number): memory and devices are equal",
        outcome.hasMoved && outcome.isEqual, outcome.description)
      guard let report = outcome.report else { return }
      let writes = try pair.destination.pinning.status().dmaWrites
      pause(milliseconds: 50)
      let later = try pair.destination.pinning.status().dmaWrites
      result.check("\(way), move \(number): the device goes on writing there", later > writes)
      for device in report.devices {
        result.expect(
          "\(way), move \(number): states of \(device.name)", device.states,
          is: device.interface == .v1
            ? [.running, .precopy, .stopCopy, .stop]
            : [.running, .precopy, .precopyP2P, .stopCopy, .stop])
      }
      if pair.source.way.hasRegion { try chunks(pair, "\(way), move \(number)", into: &result) }
      try pair.changeSides()
    }
  }

  /// By the drivers' own journals: each chunk was loaded as it was cut, and nothing was refused.
  private static func chunks(
    _ pair: MovePair, _ name: String, into result: inout LabResult
  ) throws {
    let given = try pair.source.pinning.journal()
    let taken = try pair.destination.pinning.journal()
    func parts(_ events: [PinningDevice.Event], _ kind: PinningDevice.Kind) -> [[UInt64]] {
      events.filter { $0.kind == kind }.map { [$0.value, $0.iova, $0.byteCount] }
    }
    let gave = parts(given, .gaveChunk)
    result.check(
      "\(name): \(gave.count) chunks were loaded as they were given",
      gave.count > 5 && gave == parts(taken, .tookChunk),
      "\(gave) and \(parts(taken, .tookChunk))")
    let refused = (given + taken).filter { $0.kind == .refused }
    result.check(
      "\(name): the drivers refused nothing", refused.isEmpty, "\(refused.prefix(4))")
  }

  /// Cancelled at each event of a migration, until it is over before it is cancelled.
  private static func cancelled(
    _ pair: MovePair, _ way: String, into result: inout LabResult
  ) throws {
    _ = pair.source.startDMA()
    var count = 0
    for event in 1...1000 {
      let outcome = pair.move(cancelAt: event)
      if outcome.hasMoved {
        result.check(
          "\(way): cancelled at each of \(event - 1) events, and then it moved, equal",
          outcome.isEqual && event > 10, outcome.description)
        return
      }
      guard case .cancelled = outcome.sourceError?.cause, try stayed(pair) else {
        result.check("\(way): cancelled at event \(event)", false, outcome.description)
        return
      }
      try pair.tryAgain()
      count += 1
      // What was cancelled can be done again.
      guard count % 4 == 0, try !again(pair, "\(way), cancelled at \(event)", &result) else {
        continue
      }
      return
    }
  }

  /// The driver fails once where it is told to: entering a state, or in the middle of its stream.
  private static func ordered(
    _ pair: MovePair, _ way: String, into result: inout LabResult
  ) throws {
    typealias Order = (PinningDevice.Operation, UInt64)
    let hasRegion = pair.source.way.hasRegion
    // v1 has no P2P state, and none between RESUMING and RUNNING.
    let states: [(DeviceState, Bool)] =
      hasRegion
      ? [(.precopy, true), (.stopCopy, true), (.resuming, false), (.running, false)]
      : [
        (.precopy, true), (.precopyP2P, true), (.stopCopy, true), (.resuming, false),
        (.stop, false), (.runningP2P, false), (.running, false),
      ]
    let stream: [UInt64] = [1, 9, 4104, 30_000, 65_000]
    let orders: [(Order, Bool)] =
      states.map { ((.failState, UInt64($0.0.rawValue)), $0.1) }
      + (hasRegion ? states.map { ((.failBroken, UInt64($0.0.rawValue)), $0.1) } : [])
      + stream.flatMap { [((.failStream, $0), true), ((.failStream, $0), false)] }
    for ((operation, value), atSource) in orders {
      _ = pair.source.startDMA()
      let side = atSource ? pair.source : pair.destination
      _ = side.pinning.order(operation, value: value)
      let outcome = pair.move()
      let name =
        "\(way): \(operation) \(value) at the \(atSource ? "source" : "destination") "
        + "fails the migration by name, and the guest stays"
      let isNamed = outcome.sourceError.map { "\($0)".contains("pinning") } ?? false
      let hasStayed = try stayed(pair)
      result.check(
        name, isNamed && hasStayed, "stayed \(hasStayed), \(outcome.description)")
      if outcome.hasMoved { try pair.changeSides() } else { try pair.tryAgain() }
      guard try again(pair, name, &result) else { return }
    }
  }

  /// Each call into the kernel fails in turn, of one side and then of the other.
  private static func calls(
    _ pair: MovePair, _ way: String, _ stride: Int, into result: inout LabResult
  ) throws {
    for atSource in [true, false] {
      let name = "\(way): each call of the \(atSource ? "source" : "destination")"
      var (failed, moved) = (0, 0)
      for ordinal in Swift.stride(from: 1, to: 4000, by: stride) {
        _ = pair.source.startDMA()
        let side = atSource ? pair.source : pair.destination
        side.calls.plan(failAt: ordinal)
        let outcome = pair.move()
        guard let call = side.calls.failed else {
          result.check(
            "\(name): \(failed) failures kept the guest, \(moved) did not and it is equal",
            outcome.hasMoved && outcome.isEqual && failed > 0, outcome.description)
          if outcome.hasMoved { try pair.changeSides() }
          break
        }
        side.calls.plan(failAt: nil)
        if outcome.hasMoved {
          moved += 1
          guard outcome.isEqual else {
            return result.check("\(name): \(call)", false, outcome.description)
          }
          try pair.changeSides()
        } else {
          failed += 1
          guard try stayed(pair) else {
            return result.check("\(name): \(call)", false, "lost: \(outcome.description)")
          }
          try pair.tryAgain()
          guard try again(pair, "\(name): after \(call)", &result, says: false) else { return }
        }
      }
    }
  }

  /// Without the last sync the same comparison must find pages.
  private static func planted(_ pair: MovePair, into result: inout LabResult) throws {
    _ = pair.source.startDMA()
    let outcome = pair.move()
    result.check(
      "with the final sync left out pages differ", outcome.hasMoved && outcome.pagesDifferent > 0,
      outcome.description)
  }

  /// The guest is at the source and runs, and so do its devices by their own word.
  private static func stayed(_ pair: MovePair) throws -> Bool {
    guard pair.source.machine.isRunning, !pair.destination.machine.isRunning else { return false }
    return try pair.source.pinning.status().migrationState == UInt64(DeviceState.running.rawValue)
      && pair.source.devices.allSatisfy { $0.state == .running }
  }

  /// A migration after one that failed.
  private static func again(
    _ pair: MovePair, _ name: String, _ result: inout LabResult, says: Bool = true
  ) throws -> Bool {
    let outcome = pair.move()
    let holds = outcome.hasMoved && outcome.isEqual
    if says || !holds { result.check("\(name); then it moves, equal", holds, outcome.description) }
    if outcome.hasMoved { try pair.changeSides() }
    return holds
  }
}
