import DeviceMigration
import Testing

@Suite struct DeviceStateTableTests {
  static let all: MigrationFeatures = [.stopCopy, .p2p, .precopy]
  static let combinations = (0..<8).map { MigrationFeatures(rawValue: UInt64($0)) }

  /// The table of the kernel for a device with all features, as the notes give it: row current,
  /// column target; `-` is the state itself, `E` is EINVAL.
  static let written: [(DeviceState, String)] = [
    (.stop, "-   P2P SC  RES P2P P2P P2P"),
    (.running, "P2P -   P2P P2P P2P PRE P2P"),
    (.stopCopy, "S   S   -   S   S   E   E"),
    (.resuming, "S   S   S   -   S   S   S"),
    (.runningP2P, "S   RUN S   S   -   RUN PP"),
    (.precopy, "RUN RUN PP  RUN RUN -   PP"),
    (.precopyP2P, "P2P P2P SC  P2P P2P PRE -"),
    (.error, "E   E   E   E   E   E   E"),
  ]
  static let columns: [DeviceState] = [
    .stop, .running, .stopCopy, .resuming, .runningP2P, .precopy, .precopyP2P,
  ]
  static let words: [String: DeviceState] = [
    "S": .stop, "RUN": .running, "SC": .stopCopy, "RES": .resuming, "P2P": .runningP2P,
    "PRE": .precopy, "PP": .precopyP2P,
  ]

  @Test func `with all features the table is the kernel's`() {
    let table = DeviceStateTable(features: Self.all)
    for (current, row) in Self.written {
      for (target, word) in zip(Self.columns, row.split(separator: " ").map(String.init)) {
        let expected = word == "-" ? current : Self.words[word]
        #expect(table.nextHop(from: current, to: target) == expected, "\(current) to \(target)")
      }
    }
    for state in DeviceState.allCases { #expect(table.nextHop(from: state, to: .error) == nil) }
  }

  /// The rule of the header in place of the table: the shortest path over the arcs a driver has,
  /// through no saving state but from one to another, never from STOP_COPY back to pre-copy.
  static func modelPath(
    _ features: MigrationFeatures, from: DeviceState, to: DeviceState
  ) -> [[DeviceState]] {
    func has(_ state: DeviceState) -> Bool {
      state.requiredFeatures.map { features.isSuperset(of: $0) } ?? false
    }
    guard has(from), has(to) else { return [] }
    if from == .stopCopy, to.isPrecopy { return [] }
    if from == to { return [[]] }
    var paths: [[DeviceState]] = [[]]
    for _ in 0..<DeviceState.allCases.count {
      var longer: [[DeviceState]] = []
      for path in paths {
        for next in arcs(features)[path.last ?? from] ?? [] where !path.contains(next) {
          longer.append(path + [next])
        }
      }
      let arrived = longer.filter { path in
        path.last == to
          && path.dropLast().allSatisfy { !$0.isSaving || (from.isPrecopy && to.isSaving) }
      }
      if !arrived.isEmpty { return arrived }
      paths = longer
    }
    return []
  }

  static func arcs(_ features: MigrationFeatures) -> [DeviceState: [DeviceState]] {
    var pairs: [(DeviceState, DeviceState)] = [
      (.resuming, .stop), (.stop, .resuming), (.stop, .stopCopy), (.stopCopy, .stop),
    ]
    let p2p = features.contains(.p2p)
    if p2p {
      pairs += [
        (.running, .runningP2P), (.runningP2P, .running), (.runningP2P, .stop),
        (.stop, .runningP2P),
      ]
    } else {
      pairs += [(.running, .stop), (.stop, .running)]
    }
    if features.contains(.precopy) {
      pairs += [(.running, .precopy), (.precopy, .running)]
      if p2p {
        pairs += [
          (.precopy, .precopyP2P), (.precopyP2P, .precopy), (.runningP2P, .precopyP2P),
          (.precopyP2P, .runningP2P), (.precopyP2P, .stopCopy),
        ]
      } else {
        pairs.append((.precopy, .stopCopy))
      }
    }
    return Dictionary(grouping: pairs, by: \.0).mapValues { $0.map(\.1) }
  }

  /// Where a table and the model differ.
  static func differences(
    _ features: MigrationFeatures,
    _ path: (DeviceState, DeviceState) -> [DeviceState]?
  ) -> [String] {
    var found: [String] = []
    for from in DeviceState.allCases {
      for to in DeviceState.allCases {
        let expected = modelPath(features, from: from, to: to)
        let actual = path(from, to)
        let agrees = actual.map { expected == [$0] } ?? expected.isEmpty
        if !agrees { found.append("\(features): \(from) to \(to)") }
      }
    }
    return found
  }

  @Test func `every path of every feature combination is the one shortest path of the rules`() {
    for features in Self.combinations {
      let table = DeviceStateTable(features: features)
      #expect(Self.differences(features) { table.path(from: $0, to: $1) } == [])
    }
  }

  @Test func `the comparison finds a planted fault`() {
    let table = DeviceStateTable(features: Self.all)
    let found = Self.differences(Self.all) { from, to in
      from == .running && to == .stopCopy
        ? [.stop, .stopCopy] : table.path(from: from, to: to)
    }
    #expect(found == ["STOP_COPY|P2P|PRE_COPY: RUNNING to STOP_COPY"])
  }

  @Test func `the walks of the notes`() {
    let full = DeviceStateTable(features: Self.all)
    let plain = DeviceStateTable(features: [.stopCopy, .precopy])
    #expect(
      full.path(from: .running, to: .stopCopy) == [.runningP2P, .stop, .stopCopy])
    #expect(full.path(from: .precopy, to: .stop) == [.running, .runningP2P, .stop])
    #expect(full.path(from: .stopCopy, to: .running) == [.stop, .runningP2P, .running])
    #expect(
      full.path(from: .resuming, to: .precopy) == [.stop, .runningP2P, .running, .precopy])
    #expect(plain.path(from: .running, to: .stopCopy) == [.stop, .stopCopy])
    #expect(plain.path(from: .precopy, to: .stopCopy) == [.stopCopy])
    #expect(plain.path(from: .precopy, to: .stop) == [.running, .stop])
    #expect(full.path(from: .running, to: .running) == [])
    #expect(full.path(from: .error, to: .error) == nil)
  }

  @Test func `a session opens, goes on and ends where the kernel's does`() {
    var opens: Set<[DeviceState]> = []
    var keeps: Set<[DeviceState]> = []
    var ends: Set<[DeviceState]> = []
    for features in Self.combinations {
      for (from, targets) in Self.arcs(features) {
        for to in targets {
          switch SessionEffect(from: from, to: to) {
          case .none: break
          case .opens: opens.insert([from, to])
          case .keeps: keeps.insert([from, to])
          case .ends: ends.insert([from, to])
          }
        }
      }
    }
    #expect(
      opens == [
        [.running, .precopy], [.runningP2P, .precopyP2P], [.stop, .stopCopy], [.stop, .resuming],
      ])
    #expect(
      keeps == [
        [.precopy, .precopyP2P], [.precopyP2P, .precopy], [.precopy, .stopCopy],
        [.precopyP2P, .stopCopy],
      ])
    #expect(
      ends == [
        [.stopCopy, .stop], [.resuming, .stop], [.precopy, .running], [.precopyP2P, .runningP2P],
      ])
  }
}
