#if canImport(DirtyTracker)
  import Addressing
  import DMAContainer
  import PageBitmap

  /// A container whose map and unmap cost nothing, with one log or none.
  final class BenchContainer: DMAContainer {
    let name = "bench"
    let capabilities = ContainerCapabilities()
    let dirtyLogs: [any DirtyLog]

    init(log: (any DirtyLog)? = nil) { dirtyLogs = log.map { [$0] } ?? [] }

    func map(_ request: MapRequest) throws(ContainerError) {}

    func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 { range.lastOffset &+ 1 }

    func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
      dirty.window.map { $0.lastOffset &+ 1 } ?? 0
    }
  }

  extension DirtyLogCapabilities {
    /// A log that knows each page.
    /// - Parameter crossesHoles: a window may hold addresses that are not mapped (type1), or must
    ///   not (iommufd).
    static func bench(crossesHoles: Bool) -> DirtyLogCapabilities {
      DirtyLogCapabilities(
        scope: .iommuHardware, mayCrossHoles: crossesHoles, mayCutMapping: false, canPeek: false,
        granule: .page)
    }
  }

  /// Answers each query with the same bits, and keeps how long it took to hand them over.
  final class AnsweringLog: DirtyLog, @unchecked Sendable {
    let name = "answering"
    let capabilities: DirtyLogCapabilities
    let pageCount: UInt64
    private let answer: Words?
    var seconds = 0.0

    /// - Parameter answer: for a window of its size; nil: nothing is ever dirty.
    init(answer: Words?, crossesHoles: Bool) {
      self.answer = answer
      pageCount = answer?.population() ?? 0
      capabilities = .bench(crossesHoles: crossesHoles)
    }

    func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {}
    func stop() throws(ContainerError) {}

    func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
      let start = Clock.threadSeconds()
      answer?.copy(into: &bitmap)
      seconds += Clock.threadSeconds() - start
    }
  }
#endif
