public import Addressing
public import GuestDirtyLog

/// What the source has, first thing in the stream.
public struct StreamHello: Hashable, Sendable {
  public struct Region: Hashable, Sendable {
    public let name: String
    public let gpa: GPARange
    public init(name: String, gpa: GPARange) {
      self.name = name
      self.gpa = gpa
    }
  }

  public struct Device: Hashable, Sendable {
    public let name: String
    public let interface: MigrationInterface
    public init(name: String, interface: MigrationInterface) {
      self.name = name
      self.interface = interface
    }
  }

  public var pageByteCount: UInt32
  public var features: UInt32
  public var regions: [Region]
  public var devices: [Device]
  /// A random number of the source: what it says later over another connection, it says with this.
  public var token: UInt64

  public init(
    regions: [RAMRegion], devices: [any MigratableDevice], wantsAnswers: Bool, token: UInt64 = 0
  ) {
    self.token = token
    self.pageByteCount = UInt32(StreamFormat.pageByteCount)
    self.features = wantsAnswers ? StreamFormat.featureAnswers : 0
    self.regions = regions.map { Region(name: $0.name, gpa: $0.gpa) }
    self.devices = devices.map { Device(name: $0.name, interface: $0.interface) }
  }

  /// The source waits for answers, and for its own word `start` after them.
  public var wantsAnswers: Bool { features & StreamFormat.featureAnswers != 0 }

  func encoded() -> [UInt8] {
    var bytes = PayloadEncoder()
    bytes.append(pageByteCount)
    bytes.append(features)
    bytes.append(token)
    bytes.append(UInt32(regions.count))
    for region in regions {
      bytes.append(region.gpa.first.rawValue)
      bytes.append(region.gpa.lastOffset)
      bytes.append(region.name)
    }
    bytes.append(UInt32(devices.count))
    for device in devices {
      switch device.interface {
      case .none: preconditionFailure("a device that does not migrate blocks the migration")
      case .v1:
        bytes.append(UInt8(1))
        bytes.append(UInt64(0))
      case .v2(let features):
        bytes.append(UInt8(2))
        bytes.append(features.rawValue)
      }
      bytes.append(device.name)
    }
    return bytes.bytes
  }

  /// Nil when the bytes are not those of a hello.
  init?(_ payload: [UInt8]) {
    var reader = PayloadDecoder(payload)
    guard let pageByteCount: UInt32 = reader.next(), let features: UInt32 = reader.next(),
      let token: UInt64 = reader.next(), let regionCount: UInt32 = reader.next(),
      Int(regionCount) <= Limits.ramRegionCountMax
    else { return nil }
    self.pageByteCount = pageByteCount
    self.features = features
    self.token = token
    self.regions = []
    for _ in 0..<regionCount {
      guard let first: UInt64 = reader.next(), let lastOffset: UInt64 = reader.next(),
        let name = reader.nextText(), let last = GPA(first).advanced(byBytes: lastOffset)
      else { return nil }
      regions.append(Region(name: name, gpa: AddressRange(first: GPA(first), last: last)))
    }
    guard let deviceCount: UInt32 = reader.next(), Int(deviceCount) <= Limits.deviceCountMax
    else { return nil }
    self.devices = []
    for _ in 0..<deviceCount {
      guard let kind: UInt8 = reader.next(), kind == 1 || kind == 2,
        let features: UInt64 = reader.next(), let name = reader.nextText()
      else { return nil }
      let interface: MigrationInterface = kind == 1 ? .v1 : .v2(.init(rawValue: features))
      devices.append(Device(name: name, interface: interface))
    }
    guard reader.isAtEnd else { return nil }
  }
}

/// What the source says it sent, last thing before it is done.
public struct StreamTotals: Hashable, Sendable {
  public var pages: UInt64 = 0
  public var zeroPages: UInt64 = 0
  public var chunks: UInt64 = 0
  public var chunkBytes: UInt64 = 0

  public init() {}

  func encoded() -> [UInt8] {
    var bytes = PayloadEncoder()
    for value in [pages, zeroPages, chunks, chunkBytes] { bytes.append(value) }
    return bytes.bytes
  }

  init?(_ payload: [UInt8]) {
    var reader = PayloadDecoder(payload)
    guard let pages: UInt64 = reader.next(), let zeroPages: UInt64 = reader.next(),
      let chunks: UInt64 = reader.next(), let chunkBytes: UInt64 = reader.next(), reader.isAtEnd
    else { return nil }
    self.pages = pages
    self.zeroPages = zeroPages
    self.chunks = chunks
    self.chunkBytes = chunkBytes
  }
}
