/// What a guest's IOMMU driver does, without end: generated from a seed, or recorded and repeated.
///
/// It starts with nothing mapped and pass-through off. The same seed, or recording, is the same
/// stream.
public struct IOMMUStream: Sequence, IteratorProtocol, Sendable {
  private enum Source: Sendable {
    case generated(IOMMUGenerator)
    case recorded(RecordedTraffic, next: Int)
  }
  private var source: Source

  public init(behaviour: IOMMUBehaviour, seed: UInt64, layout: GuestLayout) {
    source = .generated(IOMMUGenerator(behaviour: behaviour, seed: seed, layout: layout))
  }

  /// Repeats a recording for ever; it ends with nothing mapped, so that it can begin again.
  public init(_ traffic: RecordedTraffic) { source = .recorded(traffic, next: 0) }

  /// Never nil.
  public mutating func next() -> IOMMUEvent? {
    switch source {
    case .generated(var generator):
      // Taken out and put back, so that its arrays are not copied.
      source = .recorded(.empty, next: 0)
      let event = generator.next()
      source = .generated(generator)
      return event
    case .recorded(let traffic, let index):
      guard !traffic.events.isEmpty else { return .idle }
      source = .recorded(traffic, next: index + 1 == traffic.events.count ? 0 : index + 1)
      return traffic.events[index]
    }
  }
}
