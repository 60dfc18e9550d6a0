import GuestDirtyLog

/// A snapshot as bytes: a header, then sections, each with a checksum, the last one empty.
///
/// All integers are little-endian. Header: `SMUDGESN` 8, version 4, CRC32C of those 4. Section:
/// kind 4, bytes 8, CRC32C of its body 4, CRC32C of the 16 before 4, body. A container's pieces
/// follow it; the log's blocks follow the log.
enum SnapshotLayout {
  static let magic: UInt64 = 0x4e53_4547_4455_4d53
  static let version: UInt32 = 1
  static let headerByteCount = 16
  static let sectionHeaderByteCount = 20

  enum Section: UInt32 {
    case end = 0
    case tracker = 1
    case container = 2
    case piece = 3
    case log = 4
    case blocks = 5
  }
}

extension TrackerSnapshot {
  public func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(SnapshotLayout.magic)
    bytes.appendLittleEndian(SnapshotLayout.version)
    bytes.appendLittleEndian(bytes.checksum(0..<bytes.count))
    append(.tracker, to: &bytes) { $0.tracker(self) }
    for container in containers {
      append(.container, to: &bytes) { $0.state(container) }
      for piece in container.table { append(.piece, to: &bytes) { $0.piece(piece) } }
    }
    append(.log, to: &bytes) { $0.log(log) }
    for blocks in log.blocks { append(.blocks, to: &bytes) { $0.blocks(blocks) } }
    append(.end, to: &bytes) { _ in }
    return bytes
  }

  private func append(
    _ section: SnapshotLayout.Section, to bytes: inout [UInt8],
    _ write: (inout PayloadWriter) -> Void
  ) {
    var writer = PayloadWriter()
    write(&writer)
    let start = bytes.count
    bytes.appendLittleEndian(section.rawValue)
    bytes.appendLittleEndian(UInt64(writer.bytes.count))
    bytes.appendLittleEndian(writer.bytes.checksum(0..<writer.bytes.count))
    bytes.appendLittleEndian(bytes.checksum(start..<bytes.count))
    bytes.append(contentsOf: writer.bytes)
  }
}

/// Reads a snapshot up to its end or to the first damage.
///
/// Whatever the bytes are, it does not trap, and takes memory in proportion to them.
public struct SnapshotReader: Sendable {
  /// What was read; nil when not even its first section was.
  public private(set) var snapshot: TrackerSnapshot?
  /// Where it stops being readable, in bytes; nil: it is whole.
  public private(set) var damageByteOffset: Int?

  public init(_ bytes: [UInt8]) {
    var position = SnapshotLayout.headerByteCount
    guard Self.isSoundHeader(bytes) else {
      damageByteOffset = 0
      return
    }
    while true {
      guard let (section, body) = Self.section(bytes, at: position) else { break }
      if section == .end {
        if body.upperBound == bytes.count, snapshot != nil { return }
        break
      }
      var reader = PayloadReader(bytes, body)
      guard (try? read(section, &reader)) != nil, reader.remaining == 0 else { break }
      position = body.upperBound
    }
    damageByteOffset = position
  }

  private static func isSoundHeader(_ bytes: [UInt8]) -> Bool {
    var reader = PayloadReader(bytes)
    guard (try? reader.littleEndian(UInt64.self)) == SnapshotLayout.magic,
      (try? reader.littleEndian(UInt32.self)) == SnapshotLayout.version
    else { return false }
    return (try? reader.littleEndian(UInt32.self)) == bytes.checksum(0..<12)
  }

  private static func section(
    _ bytes: [UInt8], at position: Int
  ) -> (SnapshotLayout.Section, Range<Int>)? {
    let header = SnapshotLayout.sectionHeaderByteCount
    guard bytes.count &- position >= header else { return nil }
    var reader = PayloadReader(bytes, position..<(position + header))
    guard let kind = try? reader.littleEndian(UInt32.self),
      let count = try? reader.littleEndian(UInt64.self),
      let checksum = try? reader.littleEndian(UInt32.self),
      let own = try? reader.littleEndian(UInt32.self),
      own == bytes.checksum(position..<(position + 16)),
      let section = SnapshotLayout.Section(rawValue: kind),
      count <= UInt64(bytes.count - position - header)
    else { return nil }
    let body = (position + header)..<(position + header + Int(count))
    return bytes.checksum(body) == checksum ? (section, body) : nil
  }

  private mutating func read(
    _ section: SnapshotLayout.Section, _ reader: inout PayloadReader
  ) throws(PayloadFault) {
    guard section == .tracker || snapshot != nil else { throw .outOfRange }
    switch section {
    case .tracker: snapshot = try reader.tracker()
    case .container: snapshot?.containers.append(try reader.state())
    case .piece:
      let piece = try reader.piece()
      guard let last = snapshot?.containers.indices.last else { throw .outOfRange }
      snapshot?.containers[last].table.append(piece)
    case .log: snapshot?.log = try reader.log()
    case .blocks: snapshot?.log.blocks.append(try reader.blocks())
    case .end: break
    }
  }
}
