public import Addressing

/// DMA_MAP, 32 bytes: u32 argsz | u32 flags | u64 file offset | u64 IOVA | u64 size.
public struct DMAMapMessage: Hashable, Sendable {
  /// How the server reaches the memory.
  public enum Access: Hashable, Sendable {
    /// By mmap where a descriptor comes along, else by message.
    case unstated
    /// By mmap of the descriptor.
    case mapped
    /// By pread and pwrite on the descriptor.
    case file
    /// By either.
    case mappedOrFile
  }

  public var iova: IOVARange
  public var fileOffset: UInt64
  public var permissions: Permissions
  public var access: Access

  public init(
    iova: IOVARange, fileOffset: UInt64 = 0, permissions: Permissions, access: Access = .unstated
  ) {
    precondition(iova.byteCount != nil, "2^64 bytes have no 64-bit size")
    self.iova = iova
    self.fileOffset = fileOffset
    self.permissions = permissions
    self.access = access
  }

  static let byteCount = 32

  init(_ reader: inout WireReader) throws(VFIOUserError) {
    let argsz: UInt32 = try reader.take()
    let flags: UInt32 = try reader.take()
    fileOffset = try reader.take()
    let first: UInt64 = try reader.take()
    let size: UInt64 = try reader.take()
    try reader.require(argsz >= UInt32(Self.byteCount), "argsz \(argsz)")
    try reader.require(flags & ~0xf == 0, "flags 0x\(String(flags, radix: 16))")
    guard let range = IOVARange(first: IOVA(first), byteCount: size) else {
      throw reader.malformed("\(size) bytes at IOVA \(IOVA(first))")
    }
    try reader.require(
      !fileOffset.addingReportingOverflow(size - 1).overflow, "the file offset wraps")
    iova = range
    permissions = Permissions(rawValue: UInt8(flags & 3))
    access =
      switch flags & 0xc {
      case 0: .unstated
      case 4: .mapped
      case 8: .file
      default: .mappedOrFile
      }
  }

  func encoded() -> [UInt8] {
    var flags = UInt32(permissions.rawValue)
    switch access {
    case .unstated: break
    case .mapped: flags |= 4
    case .file: flags |= 8
    case .mappedOrFile: flags |= 12
    }
    var writer = WireWriter()
    writer.put(UInt32(Self.byteCount))
    writer.put(flags)
    writer.put(fileOffset)
    writer.put(iova.first.rawValue)
    writer.put(iova.lastOffset + 1)
    return writer.bytes
  }
}

/// DMA_UNMAP, 24 bytes, or 40 where the dirty bitmap is asked for: u32 argsz | u32 flags |
/// u64 IOVA | u64 size [ | u64 page size | u64 bytes of bitmap ].
public struct DMAUnmapMessage: Hashable, Sendable {
  public enum What: Hashable, Sendable {
    case range
    /// With the bitmap of what was written; `pageSize` is a power of two.
    case rangeWithBitmap(pageSize: UInt64, byteCount: Int)
    case everything
  }

  /// As sent: it may be a range that nothing can be mapped in.
  public var first: UInt64
  public var size: UInt64
  public var what: What
  /// Bytes of the answer the sender has room for.
  public var argsz: UInt32

  public init(first: UInt64, size: UInt64, what: What = .range) {
    self.first = first
    self.size = size
    self.what = what
    if case .rangeWithBitmap(_, let byteCount) = what {
      argsz = UInt32(clamping: 40 + byteCount)
    } else {
      argsz = 24
    }
  }

  /// Bytes of bitmap that so many bytes of IOVA have.
  static func bitmapByteCount(size: UInt64, pageSize: UInt64) -> UInt64 {
    let pages = size / pageSize &+ (size % pageSize == 0 ? 0 : 1)
    return (pages / 64 &+ (pages % 64 == 0 ? 0 : 1)) &* 8
  }

  init(_ reader: inout WireReader, limits: MessageLimits) throws(VFIOUserError) {
    argsz = try reader.take()
    let flags: UInt32 = try reader.take()
    first = try reader.take()
    size = try reader.take()
    try reader.require(argsz >= 24, "argsz \(argsz)")
    switch flags {
    case 0: what = .range
    case 2:
      try reader.require(first == 0 && size == 0, "a range, and everything")
      what = .everything
    case 1:
      let pageSize: UInt64 = try reader.take()
      let byteCount: UInt64 = try reader.take()
      try reader.require(pageSize.nonzeroBitCount == 1, "pages of \(pageSize) bytes")
      try reader.require(
        byteCount == Self.bitmapByteCount(size: size, pageSize: pageSize),
        "a bitmap of \(byteCount) bytes for \(size) bytes in pages of \(pageSize)")
      try reader.require(
        byteCount <= UInt64(limits.bitmapByteCountMax), "a bitmap of \(byteCount) bytes")
      try reader.require(UInt64(argsz) >= 40 + byteCount, "argsz \(argsz)")
      what = .rangeWithBitmap(pageSize: pageSize, byteCount: Int(byteCount))
    default: throw reader.malformed("flags 0x\(String(flags, radix: 16))")
    }
  }

  func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(argsz)
    switch what {
    case .range: writer.put(0 as UInt32)
    case .rangeWithBitmap: writer.put(1 as UInt32)
    case .everything: writer.put(2 as UInt32)
    }
    writer.put(first)
    writer.put(size)
    if case .rangeWithBitmap(let pageSize, let byteCount) = what {
      writer.put(pageSize)
      writer.put(UInt64(byteCount))
    }
    return writer.bytes
  }
}

/// The answer to DMA_UNMAP: the request again, and the bitmap where the server gives one.
public struct DMAUnmapReply: Hashable, Sendable {
  /// The bits, in the page size asked for. Nil where the server knows no such flag, and answers 24
  /// bytes: then nothing is known of what was written.
  public var bitmap: [UInt8]?

  public init(bitmap: [UInt8]?) { self.bitmap = bitmap }

  init(_ reader: inout WireReader, to request: DMAUnmapMessage) throws(VFIOUserError) {
    guard case .rangeWithBitmap(_, let byteCount) = request.what, reader.leftCount > 24 else {
      return
    }
    _ = try reader.takeBytes(40)
    if reader.leftCount == 0, byteCount > 0 { return }
    bitmap = try reader.takeBytes(byteCount)
  }

  func encoded(to request: DMAUnmapMessage) -> [UInt8] {
    var writer = WireWriter()
    guard let bitmap else {
      var plain = request
      plain.what = request.what == .everything ? .everything : .range
      writer.put(plain.encoded())
      return writer.bytes
    }
    writer.put(request.encoded())
    writer.put(bitmap)
    return writer.bytes
  }
}

/// What DMA_READ and DMA_WRITE reach: u64 IOVA | u64 count, then the data.
public struct DMAMessageRange: Hashable, Sendable {
  public var first: IOVA
  public var byteCount: Int

  public init(first: IOVA, byteCount: Int) {
    self.first = first
    self.byteCount = byteCount
  }

  /// Nil for no bytes.
  public var range: IOVARange? { IOVARange(first: first, byteCount: UInt64(byteCount)) }

  init(_ reader: inout WireReader, limits: MessageLimits) throws(VFIOUserError) {
    first = IOVA(try reader.take())
    let count: UInt64 = try reader.take()
    try reader.require(count <= UInt64(limits.dataByteCountMax), "\(count) bytes")
    byteCount = Int(count)
    try reader.require(byteCount == 0 || range != nil, "it runs past IOVA 2^64-1")
  }

  func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(first.rawValue)
    writer.put(UInt64(byteCount))
    return writer.bytes
  }
}
