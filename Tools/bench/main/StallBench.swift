#if canImport(DirtyTracker)
  import EventTrace

  /// How long a guest's map and unmap wait while a sync runs, and what it costs that they do not
  /// wait longer.
  ///
  /// One map and one unmap are due every 20 us. What is measured is from the moment a pair was due
  /// to its end, so a stall counts for everything that was due in it.
  enum StallBench {
    private typealias Shape = StallTrial.Shape

    private static let shapes = [
      Shape(
        title: "1 TiB in 2 MiB, type1", mappingCount: 1 << 19, mappingPageCount: 512, stride: 1,
        crossesHoles: true),
      Shape(
        title: "4 TiB in 2 MiB, type1", mappingCount: 1 << 21, mappingPageCount: 512, stride: 1,
        crossesHoles: true),
      Shape(
        title: "4 TiB in 2 MiB, iommufd", mappingCount: 1 << 21, mappingPageCount: 512, stride: 1,
        crossesHoles: false),
      Shape(
        title: "1 Mi scattered 4 KiB, type1", mappingCount: 1 << 20, mappingPageCount: 1,
        stride: 64,
        crossesHoles: true),
      Shape(
        title: "1 Mi scattered 4 KiB, iommufd", mappingCount: 1 << 20, mappingPageCount: 1,
        stride: 64, crossesHoles: false),
      // A window may not cut a mapping, so a step takes what one takes.
      Shape(
        title: "1 TiB in 1 GiB, type1", mappingCount: 1 << 10, mappingPageCount: 1 << 18,
        stride: 1, crossesHoles: true),
    ]

    private static let step = "longest step"
    private static let inOnePiece = "windows as large as allowed"
    private static let machine = "longest wait of map + unmap beside a thread that only spins"

    static var sections: [Section] {
      [machineSection] + shapes.map { waits($0, isRecorded: false) }
        + [waits(shapes[1], isRecorded: true)]
        + [0, 3, 4].flatMap { [inSteps(shapes[$0]), recorded(shapes[$0])] }
    }

    private static func shape(_ shape: Shape, _ effort: Effort) -> Shape {
      Shape(
        title: shape.title, mappingCount: effort.size(shape.mappingCount, quick: 16),
        mappingPageCount: shape.mappingPageCount, stride: shape.stride,
        crossesHoles: shape.crossesHoles)
    }

    /// Of the machine: a thread that is not let run for a while.
    private static var machineSection: Section {
      let row = Row(name: machine, peer: "ms", target: 0.5, isPlainNumber: true)
      return Section(name: "stall", rows: [row]) { recorder, effort in
        let trial = try StallTrial(shape(shapes[0], effort))
        for _ in 0..<effort.repetitions {
          recorder.record(machine, value: trial.longestBesideSpinning() * 1e3)
        }
      }
    }

    private static func waits(_ one: Shape, isRecorded: Bool) -> Section {
      let name =
        "wait of map + unmap in a sync of \(one.title)" + (isRecorded ? ", with a record" : "")
      let parts = [("p50", 0.5, 1.0), ("p99.9", 0.999, 2), ("longest", 1, 2)]
      // Steps of a page take no time to speak of.
      let isPlain = one.mappingPageCount == 1 && !one.crossesHoles
      return Section(
        name: "stall",
        rows: parts.map {
          Row(
            name: "\(name): \($0.0)", peer: isPlain ? "ms" : step, target: $0.2,
            isPlainNumber: isPlain)
        }
          + [Row(name: "\(name): \(step)", peer: "ms", target: 2, isPlainNumber: true)]
      ) { recorder, effort in
        let trial = try StallTrial(
          shape(one, effort), record: isRecorded ? EventRecord() : nil)
        // The first sync finds the window's size.
        _ = trial.run()
        for _ in 0..<min(effort.repetitions, 5) {
          let outcome = trial.run()
          for (part, share, _) in parts {
            recorder.record("\(name): \(part)", value: outcome.wait(share) * (isPlain ? 1e3 : 1))
            recorder.record("\(name): \(part)", step, value: outcome.longestStep)
          }
          recorder.record("\(name): \(step)", value: outcome.longestStep * 1e3)
        }
      }
    }

    /// What a sync takes when nobody maps, beside one whose steps are as long as can be.
    private static func inSteps(_ one: Shape) -> Section {
      let name = "sync in steps while nobody maps, \(one.title)"
      return Section(name: "stall", rows: [Row(name: name, peer: inOnePiece, target: 1.05)]) {
        recorder, effort in
        let inSteps = try StallTrial(shape(one, effort))
        let whole = try StallTrial(shape(one, effort), hasClock: false)
        inSteps.sync()
        whole.sync()
        for _ in 0..<effort.repetitions {
          recorder.timeOnWall(name) { inSteps.sync() }
          recorder.timeOnWall(name, inOnePiece) { whole.sync() }
        }
      }
    }

    /// What the record adds to a sync whose answers have dirt.
    private static func recorded(_ one: Shape) -> Section {
      let name = "sync with a record, \(one.title), every 64th page dirty"
      let peer = TrackerBench.unrecorded
      return Section(name: "stall", rows: [Row(name: name, peer: peer, target: 1.15)]) {
        recorder, effort in
        let plain = try StallTrial(shape(one, effort), isDirty: true)
        let recorded = try StallTrial(shape(one, effort), record: EventRecord(), isDirty: true)
        plain.sync()
        recorded.sync()
        for _ in 0..<effort.repetitions {
          recorder.timeOnWall(name, peer) { plain.sync() }
          recorder.timeOnWall(name) { recorded.sync() }
        }
      }
    }
  }
#endif
