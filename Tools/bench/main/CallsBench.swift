#if canImport(DirtyTracker)
  import Addressing
  import DMAContainer
  import DirtyTracker
  import GuestDirtyLog
  import PageBitmap

  /// How many calls a sync makes by the rules of type1 and of iommufd: plain numbers, no times.
  enum CallsBench {
    private static let type1 = "calls of a sync, type1 with 60,000 mappings"
    private static let iommufd = "calls of a sync for each contiguous run, iommufd, 60,000 mappings"

    static var section: Section {
      Section(
        name: "calls",
        rows: [
          Row(name: type1, peer: "calls", target: 4, isPlainNumber: true),
          Row(name: iommufd, peer: "calls", target: 1, isPlainNumber: true),
        ]
      ) { recorder, effort in
        let count = effort.size(60_000, quick: 6000)
        var random = SplitMix(state: 60)
        // One in eight begins after a hole.
        var page: UInt64 = 1 << 20
        var runs = 1
        let pages = (0..<count).map { index in
          page += 1
          if index > 0, random.below(8) == 0 {
            page += 1 + random.below(64)
            runs += 1
          }
          return page
        }
        recorder.record(type1, value: Double(try calls(pages, crossesHoles: true, &random)))
        let ofRuns = try calls(pages, crossesHoles: false, &random)
        recorder.record(iommufd, value: Double(ofRuns) / Double(runs))
      }
    }

    private static func calls(
      _ pages: [UInt64], crossesHoles: Bool, _ random: inout SplitMix
    ) throws -> Int {
      let tracker = DirtyTracker(log: GuestDirtyLog())
      try tracker.begin()
      try tracker.regionAdded(
        RAMRegion(name: "ram", gpa: AddressRange(first: GPA(0), last: GPA((1 << 36) - 1))))
      try tracker.commit()
      let container = BenchContainer(
        log: AnsweringLog(answer: nil, crossesHoles: crossesHoles))
      let id = try tracker.addContainer(container, addressSpace: .remapped)
      for page in pages {
        try tracker.iommuMap(
          id, AddressRange(first: IOVA(page << 12), last: IOVA(page << 12 | 0xfff)),
          to: GPA(random.below(1 << 24) << 12), permissions: .readWrite)
      }
      _ = tracker.startTracking()
      return tracker.sync(isFinal: false).backendCallCount
    }
  }
#endif
