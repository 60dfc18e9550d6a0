#if canImport(DirtyTracker)
  import Addressing
  import DMAContainer
  import DirtyTracker
  import GuestDirtyLog
  import PageBitmap

  /// A whole sync of a guest of 1 TiB behind a vIOMMU: the plan, the bitmap made ready, the walk of
  /// the table, the scatter into the log. What the backend takes to answer is left out.
  enum SyncBench {
    private static let peer = "memcpy of 32 MiB"
    private static let kinds: [(title: String, pages: Int, isShuffled: Bool)] = [
      ("2 MiB in order", 512, false), ("2 MiB shuffled", 512, true),
      ("1 GiB shuffled", 512 << 9, true),
    ]

    private static func name(_ title: String, _ dirt: ScatterDirt) -> String {
      "sync of 1 TiB without the backend, \(title), \(dirt.title)"
    }

    static var sections: [Section] {
      kinds.flatMap { kind in ScatterDirt.allCases.map { section(kind, $0) } }
    }

    private static func section(
      _ kind: (title: String, pages: Int, isShuffled: Bool), _ dirt: ScatterDirt
    ) -> Section {
      let name = name(kind.title, dirt)
      return Section(name: "sync", rows: [Row(name: name, peer: peer, target: 1.5)]) {
        recorder, effort in
        let pageCount = effort.size(1 << 28, quick: 1 << 19)
        let source = Words(count: pageCount / 64)
        let copy = Words(count: pageCount / 64)
        source.fill { UInt64($0) }
        let trial = try SyncTrial(
          pageCount: pageCount, mappingPageCount: kind.pages, isShuffled: kind.isShuffled, dirt)
        for _ in 0..<effort.repetitions {
          trial.run(recorder, name)
          recorder.time(name, peer) { copy.copy(from: source) }
        }
      }
    }
  }

  /// One guest, its mappings, and what a query answers.
  private final class SyncTrial {
    private let tracker: DirtyTracker
    private let container: BenchContainer
    private let log: AnsweringLog
    private let consumer: ConsumerID

    init(
      pageCount: Int, mappingPageCount: Int, isShuffled: Bool, _ dirt: ScatterDirt
    ) throws {
      let answer = Words(count: pageCount / 64)
      dirt.fill(answer)
      let log = AnsweringLog(answer: answer, crossesHoles: true)
      container = BenchContainer(log: log)
      self.log = log
      tracker = DirtyTracker(log: GuestDirtyLog())
      try tracker.begin()
      try tracker.regionAdded(
        RAMRegion(
          name: "ram", gpa: AddressRange(first: GPA(0), last: GPA(UInt64(pageCount) << 12 - 1))))
      try tracker.commit()
      let id = try tracker.addContainer(container, addressSpace: .remapped)
      var random = SplitMix(state: 9)
      var chunks = Array(0..<UInt64(pageCount / mappingPageCount))
      if isShuffled { chunks.shuffle(using: &random) }
      let bytes = UInt64(mappingPageCount) << 12
      for (index, chunk) in chunks.enumerated() {
        let first = UInt64(index) * bytes
        try tracker.iommuMap(
          id, AddressRange(first: IOVA(first), last: IOVA(first + bytes - 1)),
          to: GPA(chunk * bytes), permissions: .readWrite)
      }
      consumer = try tracker.log.addConsumer("bench", startsDirty: false)
      precondition(tracker.startTracking().notes.isEmpty, "logging started")
    }

    func run(_ recorder: Recorder, _ name: String) {
      log.seconds = 0
      let start = Clock.threadSeconds()
      let report = tracker.sync(isFinal: false)
      let all = Clock.threadSeconds() - start
      recorder.record(name, value: all - log.seconds)
      precondition(report.backendCallCount == 1, "one window is enough")
      precondition(
        report.containers.map(\.newlyDirtyPages) == [log.pageCount],
        "every page of the answer is in the log")
      var isLast = false
      while !isLast {
        let harvest = tracker.log.harvest(for: consumer, pageCountMax: .max, runCountMax: 1 << 16)
        tracker.log.delivered(harvest)
        isLast = harvest.isLast
      }
    }
  }
#endif
