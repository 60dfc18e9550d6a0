import DirtyTracker

/// The mediated devices of two sides, and what is made of them.
struct MoveDevices {
  private let way: MoveWay
  private let moving: [String]
  private let mtty: [String]
  private let edu: [String]

  init(_ way: MoveWay) throws {
    self.way = way
    moving = try (1...2).map { try PinningDevice.create($0, type: way.deviceType) }
    mtty = try (3...4).map { try PinningDevice.create($0, parent: "mtty", type: "2") }
    edu = way == .regionBacked ? EduDevice.addresses() : []
    if way == .regionBacked, edu.count < 2 { throw LabError("two edu devices are needed") }
  }

  func pair(
    seed: UInt64, omitting: Set<TrackerOmission> = [], careless: CarelessRegion.Habit? = nil
  ) throws -> MovePair {
    let sides = try (0..<2).map {
      try MoveSide(
        (moving[$0], mtty[$0]), way: way, edu: edu.isEmpty ? nil : edu[$0], omitting: omitting,
        careless: careless)
    }
    return try MovePair(sides[0], sides[1], seed: seed)
  }

  func remove() { for name in moving + mtty { PinningDevice.remove(name) } }
}
