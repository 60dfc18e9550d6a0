import DeviceMigration
import DirtyTracker
import VFIOKernel

/// Section 3.4: mtty and the pinning device go from one type1 container to another and back by the
/// front-end, with real memory that the device goes on writing; cancelled at each step, failing at
/// each step. Where the sides differ is asked of memory and devices, never of the tracker.
enum MigrationTest {
  /// - Parameter arguments: a seed; `pinned` or `logged` for one of the two ways alone; N to make
  ///   every Nth call fail instead of each.
  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    let seed = arguments.first.flatMap { UInt64($0) } ?? 1
    let stride = arguments.dropFirst(2).first.flatMap { Int($0) } ?? 1
    let ways = ["pinned", "logged"].filter { arguments.count < 2 || arguments[1] == $0 }
    let pinning = try (1...2).map { try PinningDevice.create($0) }
    let mtty = try (3...4).map { try PinningDevice.create($0, parent: "mtty", type: "2") }
    func pair(_ way: String, omitting: Set<TrackerOmission> = []) throws -> MovePair {
      let sides = try (0..<2).map {
        try MoveSide((pinning[$0], mtty[$0]), logs: way == "logged", omitting: omitting)
      }
      return try MovePair(sides[0], sides[1], seed: seed)
    }
    for way in ways {
      try plain(try pair(way), way, into: &result)
      try cancelled(try pair(way), way, into: &result)
      try ordered(try pair(way), way, into: &result)
      try calls(try pair(way), way, stride, into: &result)
    }
    try planted(try pair("pinned", omitting: [.finalSync]), into: &result)
    for name in pinning + mtty { PinningDevice.remove(name) }
    return result
  }

  /// There and back, twice.
  private static func plain(_ pair: MovePair, _ way: String, into result: inout LabResult) throws {
    _ = pair.source.startDMA()
    for number in 1...4 {
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
          is: [.running, .precopy, .precopyP2P, .stopCopy, .stop])
      }
      try pair.changeSides()
    }
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
    let states: [(DeviceState, Bool)] = [
      (.precopy, true), (.precopyP2P, true), (.stopCopy, true), (.resuming, false), (.stop, false),
      (.runningP2P, false), (.running, false),
    ]
    let stream: [UInt64] = [1, 9, 4104, 30_000, 65_000]
    let orders: [(Order, Bool)] =
      states.map { ((.failState, UInt64($0.0.rawValue)), $0.1) }
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
