#if canImport(DirtyTracker)
  import Addressing
  import CBenchPeers
  import DirtyTracker
  import Dispatch
  import EventTrace
  import Glibc
  import GuestDirtyLog
  import Synchronization

  /// One guest with its mappings, and a backend that takes its time.
  final class StallTrial: Sendable {
    /// What is mapped, and by which rules it is asked for.
    struct Shape {
      let title: String
      let mappingCount: Int
      let mappingPageCount: Int
      /// The IOVA of one mapping to that of the next, in mappings.
      let stride: Int
      /// As type1 allows it; iommufd does not.
      let crossesHoles: Bool
    }

    /// What the longest wait is made of.
    struct Outcome {
      /// Seconds from due to done, sorted.
      let waits: [Double]
      let longestStep: Double

      func wait(_ part: Double) -> Double {
        waits[min(waits.count - 1, Int(Double(waits.count) * part))]
      }
    }

    private static let dueEverySeconds = 20e-6
    /// What a query takes for 1 GiB of its window.
    private static let secondsPerGiB = 1e-3

    private let tracker: DirtyTracker
    private let log: SpinningLog
    private let id: ContainerID
    private let spare: IOVARange

    /// - Parameters:
    ///   - hasClock: windows are as large as a millisecond allows, else as the backend does.
    ///   - isDirty: an answer says that every 64th page is.
    init(
      _ shape: Shape, record: EventRecord? = nil, hasClock: Bool = true, isDirty: Bool = false
    ) throws {
      log = SpinningLog(
        secondsPerGiB: Self.secondsPerGiB, crossesHoles: shape.crossesHoles, isDirty: isDirty)
      let clock: @Sendable () -> UInt64 = { UInt64(Clock.wallSeconds() * 1e9) }
      tracker = DirtyTracker(
        log: GuestDirtyLog(), record: record, clock: hasClock ? clock : nil,
        rest: { _ = sched_yield() })
      let bytes = UInt64(shape.mappingPageCount) << 12
      try tracker.begin()
      try tracker.regionAdded(
        RAMRegion(
          name: "ram",
          gpa: AddressRange(first: GPA(0), last: GPA(UInt64(shape.mappingCount) * bytes - 1))))
      try tracker.commit()
      id = try tracker.addContainer(BenchContainer(log: log), addressSpace: .remapped)
      for index in 0..<UInt64(shape.mappingCount) {
        let first = index * bytes * UInt64(shape.stride)
        try tracker.iommuMap(
          id, AddressRange(first: IOVA(first), last: IOVA(first + bytes - 1)),
          to: GPA(index * bytes), permissions: .readWrite)
      }
      let above = UInt64(shape.mappingCount * shape.stride) * bytes + 1 << 30
      spare = AddressRange(first: IOVA(above), last: IOVA(above + 4095))
      // Marks that nobody reads are only counted.
      _ = try tracker.log.addConsumer("bench", startsDirty: false)
      _ = tracker.startTracking()
    }

    /// One sync while nobody maps.
    func sync() { _ = tracker.sync(isFinal: false) }

    /// The same waits without a sync, for a second, beside a thread that keeps its processor busy:
    /// what of the longest wait is the machine's.
    func longestBesideSpinning() -> Double {
      let waits = waits {
        let end = Clock.wallSeconds() + 1
        while Clock.wallSeconds() < end {}
      }
      return waits.max() ?? 0
    }

    /// One sync, and a guest that maps and unmaps one page meanwhile.
    func run() -> Outcome {
      log.takeLongest()
      let tracker = tracker
      let waits = waits { _ = tracker.sync(isFinal: false) }
      return Outcome(waits: waits.sorted(), longestStep: log.takeLongest())
    }

    /// What pairs waited while another thread, on a processor of its own, was at work.
    private func waits(beside work: @escaping @Sendable () -> Void) -> [Double] {
      let finished = SyncFlag()
      DispatchQueue.global().async {
        bench_keep_on_processor(1)
        defer { bench_leave_processor() }
        work()
        finished.raise()
      }
      return waits(until: finished)
    }

    /// What pairs waited, from due to done.
    private func waits(until finished: SyncFlag) -> [Double] {
      bench_keep_on_processor(0)
      defer { bench_leave_processor() }
      var waits: [Double] = []
      var due = Clock.wallSeconds()
      // One pair at least: a quick sync may be done before the first is due.
      repeat {
        due += Self.dueEverySeconds
        while Clock.wallSeconds() < due {}
        do {
          try tracker.iommuMap(id, spare, to: GPA(0), permissions: .readWrite)
          try tracker.iommuUnmap(id, spare)
        } catch {
          preconditionFailure("\(error)")
        }
        waits.append(Clock.wallSeconds() - due)
      } while !finished.isRaised
      return waits
    }
  }

  /// Raised by the thread beside, when it is done.
  private final class SyncFlag: Sendable {
    private let flag = Atomic(false)
    var isRaised: Bool { flag.load(ordering: .acquiring) }
    func raise() { flag.store(true, ordering: .releasing) }
  }
#endif
