public import Addressing

/// The state of a dirty log as a value, copied a few blocks of bits at a time while marks and
/// harvests go on.
public struct DirtyLogCopy: Hashable, Sendable {
  public struct Consumer: Hashable, Sendable {
    public var number: Int
    public var name: String

    public init(number: Int, name: String) {
      self.number = number
      self.name = name
    }
  }

  /// A harvest in flight.
  public struct Flight: Hashable, Sendable {
    public var consumer: Int
    public var harvest: UInt64
    public var runs: [GPARange]

    public init(consumer: Int, harvest: UInt64, runs: [GPARange]) {
      self.consumer = consumer
      self.harvest = harvest
      self.runs = runs
    }
  }

  /// Pages that one container holds back: held since the last settling, and found since then.
  public struct Held: Hashable, Sendable {
    public var container: UInt16
    public var current: [GPARange]
    public var next: [GPARange]

    public init(container: UInt16, current: [GPARange], next: [GPARange]) {
      self.container = container
      self.current = current
      self.next = next
    }
  }

  /// A few blocks of bits of one region, under one hold of its lock.
  public struct Blocks: Hashable, Sendable {
    public var region: GPA
    public var blocks: Range<Int>
    /// Entries of the journal from here on are not part of this.
    public var place: JournalPlace
    /// Dirty for every consumer.
    public var common: [GPARange] = []
    /// Dirty for the consumer at the same place in ``DirtyLogCopy/consumers``, beside those.
    public var own: [[GPARange]] = []
    public var held: [Held] = []

    public init(region: GPA, blocks: Range<Int>, place: JournalPlace) {
      self.region = region
      self.blocks = blocks
      self.place = place
    }
  }

  /// Of what follows, up to `blocks`.
  public var place = JournalPlace(0)
  public var allDirtyReason: String?
  public var regions: [RAMRegion] = []
  public var consumers: [Consumer] = []
  public var flights: [Flight] = []
  public var blocks: [Blocks] = []

  public init() {}
}
