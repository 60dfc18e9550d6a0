/// Builds the state of a simulated device from records, and believes none of them: each is checked
/// against what the device is, and the whole against the digest at its end.
struct DeviceImageLoader: Sendable {
  private(set) var image: DeviceImage
  private var rest: [UInt8] = []
  private var headerSeen = false
  private var pageSeen: [Bool]
  private var registersSeen = false
  private(set) var isComplete = false

  init(pageCount: Int) {
    image = DeviceImage(pageCount: pageCount)
    pageSeen = Array(repeating: false, count: pageCount)
  }

  /// True when no record has been begun and not ended.
  var isAtBoundary: Bool { rest.isEmpty }

  /// Takes bytes of the stream, cut anywhere.
  /// - Returns: false when they can not be a state of this device.
  mutating func take(_ bytes: [UInt8]) -> Bool {
    rest += bytes
    var offset = 0
    while rest.count - offset >= DeviceRecordKind.headByteCount {
      guard !isComplete, let kind = DeviceRecordKind(rawValue: rest[offset]),
        number(at: offset + 1, byteCount: 4) == UInt64(kind.payloadByteCount)
      else { return false }
      let start = offset + DeviceRecordKind.headByteCount
      guard rest.count - start >= kind.payloadByteCount else { break }
      guard apply(kind, at: start) else { return false }
      offset = start + kind.payloadByteCount
    }
    rest.removeFirst(offset)
    return !isComplete || rest.isEmpty
  }

  private mutating func apply(_ kind: DeviceRecordKind, at start: Int) -> Bool {
    switch kind {
    case .header:
      guard !headerSeen, number(at: start, byteCount: 8) == DeviceRecordKind.magic else {
        return false
      }
      headerSeen = true
      return number(at: start + 8, byteCount: 8) == UInt64(image.pageCount)
    case .page:
      let page = Int(number(at: start, byteCount: 4))
      guard headerSeen, !registersSeen, page < image.pageCount else { return false }
      let first = page * DeviceImage.pageByteCount
      image.memory.replaceSubrange(
        first..<(first + DeviceImage.pageByteCount),
        with: rest[(start + 4)..<(start + 4 + DeviceImage.pageByteCount)])
      pageSeen[page] = true
      return true
    case .registers:
      guard headerSeen, !registersSeen else { return false }
      for index in 0..<DeviceImage.registerCount {
        image.registers[index] = number(at: start + 8 * index, byteCount: 8)
      }
      registersSeen = true
      return true
    case .end:
      guard registersSeen, pageSeen.allSatisfy({ $0 }) else { return false }
      isComplete = number(at: start, byteCount: 8) == image.digest
      return isComplete
    }
  }

  private func number(at offset: Int, byteCount: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<byteCount { value |= UInt64(rest[offset + index]) << UInt64(8 * index) }
    return value
  }
}
