/// What the lines of a recording are told by, as bytes and made once.
enum Word {
  static let map = Array("map: IOMMU: iova=".utf8)
  static let lost = Array("[LOST ".utf8)
  static let entriesWritten = Array("entries-written: ".utf8)
  static let slash = Array("/".utf8)
  static let dot = Array(".".utf8)
  static let colon = Array(": ".utf8)
  static let dash = Array(" - ".utf8)
  static let paddr = Array(" paddr=".utf8)
  static let size = Array(" size=".utf8)
  static let unmappedSize = Array(" unmapped_size=".utf8)
  static let hexadecimal = Array("0x".utf8)
  static let bracket = Array("] ".utf8)
}
