import Addressing

/// What stands behind `IOMMU:` in a map or unmap: `name=value` in any order.
///
///     iova=0x… - 0x… paddr=0x… size=4096              map, from Linux 5.17 on
///     iova=0x… paddr=0x… size=4096                    map, before: the size gives the end
///     iova=0x… - 0x… size=4096 unmapped_size=4096     unmap
///
/// Fields of other names (`dev=`, of patched kernels) are stepped over. A word that is no field, a
/// field that comes twice and a value that cannot be read make the line one that is not understood.
struct FtraceFields {
  private(set) var first: UInt64?
  /// Exclusive, 0 for a range up to 2^64-1.
  private(set) var end: UInt64?
  private(set) var address: UInt64?
  private(set) var size: UInt64?
  private(set) var unmappedSize: UInt64?

  /// - Parameter text: behind `IOMMU:`.
  init?(_ text: LineScanner) {
    var text = text
    text.skipSpaces()
    while !text.isAtEnd {
      guard read(&text), text.isAtBreak else { return nil }
      text.skipSpaces()
    }
  }

  private mutating func read(_ text: inout LineScanner) -> Bool {
    if text.take(Word.iova) {
      guard first == nil, let value = text.hexadecimal() else { return false }
      first = value
      if text.take(Word.dash) {
        end = text.hexadecimal()
        return end != nil
      }
      return true
    }
    if text.take(Word.paddr) { return Self.set(&address, text.hexadecimal()) }
    if text.take(Word.size) { return Self.set(&size, text.number()) }
    if text.take(Word.unmappedSize) { return Self.set(&unmappedSize, text.number()) }
    return text.skipField()
  }

  private static func set(_ field: inout UInt64?, _ value: UInt64?) -> Bool {
    guard field == nil, let value else { return false }
    field = value
    return true
  }

  func event(isUnmap: Bool) -> FtraceEvent.Kind? {
    guard let iova else { return nil }
    if isUnmap {
      return unmappedSize.map { .unmap(iova: iova, unmappedByteCount: $0) }
    }
    return address.map { .map(iova: iova, gpaFirst: GPA($0)) }
  }

  /// Whether all fields of the event are there.
  func isWhole(isUnmap: Bool) -> Bool {
    first != nil && size != nil && (isUnmap ? unmappedSize != nil : address != nil)
  }

  /// Nil where begin, end and size do not agree, or run past the end of a space.
  private var iova: IOVARange? {
    guard let first, let size, let range = IOVARange(first: IOVA(first), byteCount: size),
      end == nil || first &+ size == end,
      GPA(address ?? 0).advanced(byBytes: range.lastOffset) != nil
    else { return nil }
    return range
  }
}
