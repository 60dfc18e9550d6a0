#if canImport(DirtyTracker)
  import Addressing
  import DMAContainer
  import PageBitmap
  import Synchronization

  /// Answers after a time that follows the window: that nothing is dirty, or every 64th page.
  final class SpinningLog: DirtyLog {
    let name = "spinning log"
    let capabilities: DirtyLogCapabilities
    private let secondsPerGiB: Double
    private let isDirty: Bool
    private let longestNanoseconds = Atomic<UInt64>(0)

    init(secondsPerGiB: Double, crossesHoles: Bool, isDirty: Bool = false) {
      self.secondsPerGiB = secondsPerGiB
      self.isDirty = isDirty
      capabilities = .bench(crossesHoles: crossesHoles)
    }

    func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {}
    func stop() throws(ContainerError) {}

    func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
      guard let window = bitmap.window else { return }
      let start = Clock.wallSeconds()
      let end = start + Double(window.lastOffset + 1) / Double(1 << 30) * secondsPerGiB
      if isDirty { for index in 0..<bitmap.wordCount { bitmap.merge(word: index, 1) } }
      while Clock.wallSeconds() < end {}
      // What it meant to take: the machine may have let it wait for longer.
      let took = UInt64((end - start) * 1e9)
      if took > longestNanoseconds.load(ordering: .relaxed) {
        longestNanoseconds.store(took, ordering: .relaxed)
      }
    }

    /// Seconds of the longest query since the last call.
    @discardableResult
    func takeLongest() -> Double {
      Double(longestNanoseconds.exchange(0, ordering: .relaxed)) * 1e-9
    }
  }
#endif
