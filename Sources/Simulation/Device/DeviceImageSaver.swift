/// A record of a simulated device's state: kind (1), payload byte count (4), payload.
enum DeviceRecordKind: UInt8 {
  /// Magic (8) and page count (8).
  case header = 1
  /// Page index (4) and its bytes.
  case page = 2
  /// All registers, 8 bytes each.
  case registers = 3
  /// The digest (8) of the whole: what the other side must have come to.
  case end = 4

  static let magic: UInt64 = 0x736d_6467_6465_7631
  static let headByteCount = 5
  static let pageRecordByteCount = headByteCount + 4 + DeviceImage.pageByteCount

  var payloadByteCount: Int {
    switch self {
    case .header: 16
    case .page: 4 + DeviceImage.pageByteCount
    case .registers: 8 * DeviceImage.registerCount
    case .end: 8
    }
  }
}

/// Turns the state of a simulated device into records: first every page once, then those that
/// changed, and at the end, when the device is stopped, the registers and the digest.
struct DeviceImageSaver: Sendable {
  private var headerSent = false
  private var nextInitialPage = 0
  private var finished = false

  /// Saving begins: what is dirty now goes with the first pass.
  init(_ image: inout DeviceImage) {
    for page in 0..<image.pageCount { image.clean(page) }
  }

  func initialByteCount(_ image: DeviceImage) -> Int {
    (headerSent ? 0 : DeviceRecordKind.headByteCount + DeviceRecordKind.header.payloadByteCount)
      + (image.pageCount - nextInitialPage) * DeviceRecordKind.pageRecordByteCount
  }

  /// The device was reconfigured: every page comes once more, and what was dirty with it.
  mutating func restart(_ image: inout DeviceImage) {
    nextInitialPage = 0
    for page in 0..<image.pageCount { image.clean(page) }
  }

  func dirtyByteCount(_ image: DeviceImage) -> Int {
    image.dirtyCount * DeviceRecordKind.pageRecordByteCount
  }

  /// What the end takes beside pages.
  func finalByteCount() -> Int {
    finished
      ? 0
      : 2 * DeviceRecordKind.headByteCount + DeviceRecordKind.registers.payloadByteCount
        + DeviceRecordKind.end.payloadByteCount
  }

  /// The next records, empty when there is nothing for now, or after the end.
  mutating func next(
    _ image: inout DeviceImage, pageCountMax: Int, isStopped: Bool
  ) -> [UInt8] {
    var out: [UInt8] = []
    if !headerSent {
      headerSent = true
      Self.append(.header, to: &out)
      Self.append(DeviceRecordKind.magic, to: &out)
      Self.append(UInt64(image.pageCount), to: &out)
    }
    for _ in 0..<pageCountMax {
      if nextInitialPage < image.pageCount {
        image.clean(nextInitialPage)
        Self.append(page: nextInitialPage, of: image, to: &out)
        nextInitialPage += 1
      } else if let page = image.takeDirtyPage() {
        Self.append(page: page, of: image, to: &out)
      } else {
        break
      }
    }
    if isStopped, out.isEmpty, !finished {
      finished = true
      Self.append(.registers, to: &out)
      for register in image.registers { Self.append(register, to: &out) }
      Self.append(.end, to: &out)
      Self.append(image.digest, to: &out)
    }
    return out
  }

  private static func append(_ kind: DeviceRecordKind, to out: inout [UInt8]) {
    out.append(kind.rawValue)
    append(UInt32(kind.payloadByteCount), to: &out)
  }

  private static func append(page: Int, of image: DeviceImage, to out: inout [UInt8]) {
    append(.page, to: &out)
    append(UInt32(page), to: &out)
    let first = page * DeviceImage.pageByteCount
    out.append(contentsOf: image.memory[first..<(first + DeviceImage.pageByteCount)])
  }

  private static func append(_ value: some FixedWidthInteger, to out: inout [UInt8]) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      out.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}
