public import Addressing
public import DMAContainer
import IOVAMapping
import Locking

/// The container of a vfio-user connection: the IOVA space of the server's device.
///
/// Terms:
/// - **Piece**: what one DMA_MAP maps. A mapping is one, unless its dirty bitmap would not fit one
///   answer: then it is several, and unmapped and asked for as those.
/// - **By message**: a server without a descriptor for a mapping has this side read and write.
///
/// Invariants:
/// 1. What the server may write through a descriptor is in its own log, or counts as written. What
///    this side wrote for it is in ours, before the server has the answer.
/// 2. An unmap returns only after the server's answer: then it uses the memory no more. What its
///    answer does not say of the dirt of a piece makes all of the piece dirty.
/// 3. Nothing is asked of a server that libvfio-user answers wrongly: a report is about one whole
///    piece, in the page size of the log, unless the server says that it reports any range.
/// 4. Every bit of an answer counts, also outside of what was asked; an answer without a bitmap is
///    an error.
public final class VFIOUserContainer: DMAContainer, DMAMessageHandler {
  public let name: String
  let client: VFIOUserClient
  let book: ContainerBook
  private let log: VFIOUserLog
  private let files: Mutex<[VFIOUserMemoryFile]>
  private let memory: (any DMAMemory)?

  /// Asks the server what it can do, and becomes the handler of its DMA.
  /// - Parameters:
  ///   - files: guest memory that the server gets descriptors of. Empty: it reads and writes by
  ///     message, and all of that is seen here.
  ///   - givesFiles: the server gets descriptors, of files that come later too
  ///     (``addFile(_:)``). By default where there are any.
  ///   - hasLog: whether the server's own log is used; without one all of what it may write counts
  ///     as written. By default where it has one.
  ///   - memory: guest memory as this side reads and writes it for the server. Nil: DMA by message
  ///     is refused with EFAULT.
  public init(
    name: String, client: VFIOUserClient, files: [VFIOUserMemoryFile] = [],
    givesFiles: Bool? = nil, hasLog: Bool? = nil, memory: (any DMAMemory)? = nil
  ) throws(VFIOUserError) {
    self.name = name
    self.client = client
    self.files = Mutex(files)
    self.memory = memory
    let way: ContainerBook.Way
    if !(givesFiles ?? !files.isEmpty) {
      way = .messages
    } else {
      let isLogged = if let hasLog { hasLog } else { try Self.hasLog(client) }
      way = isLogged ? .serverLog : .nothing
    }
    // Pages of 4 KiB; a power of two, so that pieces begin where pages do.
    let bits = UInt64(max(8, client.bitmapByteCountMax)) * 8
    let pages = UInt64(1) << UInt64(63 - bits.leadingZeroBitCount)
    book = ContainerBook(way: way, pieceByteCountMax: pages << 12)
    log = VFIOUserLog(name: "\(name) log", client: client, book: book)
    client.serveDMA(by: self)
  }

  /// Memory that later mappings may lie in. Without an effect where the server gets no descriptors.
  public func addFile(_ file: VFIOUserMemoryFile) { files.withLock { $0.append(file) } }

  /// Memory that no mapping lies in any more: its descriptor is let go.
  public func removeFile(at gpa: GPA) { files.withLock { $0.removeAll { $0.gpa.first == gpa } } }

  /// Whether the server logs what it writes through descriptors: it has all of DMA_LOGGING_START,
  /// STOP and REPORT.
  public static func hasLog(_ client: VFIOUserClient) throws(VFIOUserError) -> Bool {
    guard try client.hasFeature(.startLogging, set: true) else { return false }
    guard try client.hasFeature(.stopLogging, set: true) else { return false }
    return try client.hasFeature(.reportLogging, get: true)
  }

  public var capabilities: ContainerCapabilities {
    let said = client.server.capabilities
    return ContainerCapabilities(
      // What is not a multiple of 4 KiB has no pages.
      pageSizes: PageSizeSet(mask: (said.pageSizes ?? 0) | 4096), bisectPolicy: .refuse,
      mappingCountMax: said.mappingCountMax, hasAtomicUnmap: book.way != .nothing)
  }

  public var dirtyLogs: [any DirtyLog] { [log] }

  // MARK: maps

  public func map(_ request: MapRequest) throws(ContainerError) {
    guard request.iova.byteCount != nil else {
      throw refused(
        .map, request.iova, ContainerErrno.eoverflow, "2^64 bytes have no 64-bit size")
    }
    guard !request.permissions.isEmpty else {
      throw refused(
        .map, request.iova, ContainerErrno.einval, "it grants neither read nor write")
    }
    let file = file(behind: request)
    do throws(MappingError) {
      try book.enter(request, hasDescriptor: file != nil)
    } catch {
      throw refused(.map, request.iova, Self.errno(of: error), "\(error)")
    }
    var done: [IOVARange] = []
    do throws(VFIOUserError) {
      for piece in book.pieces(of: request.iova) {
        try mapPiece(piece, of: request, file)
        done.append(piece)
      }
    } catch {
      let isTakenBack = takeBack(done)
      book.remove(request.iova)
      throw refused(
        .map, request.iova, error,
        isTakenBack ? "" : "; what was mapped could not be taken back, the connection is closed")
    }
  }

  private func mapPiece(
    _ piece: IOVARange, of request: MapRequest, _ file: (VFIOUserMemoryFile, offset: UInt64)?
  ) throws(VFIOUserError) {
    let inside = piece.first.rawValue - request.iova.first.rawValue
    let message = DMAMapMessage(
      iova: piece, fileOffset: (file?.offset ?? request.gpaFirst.rawValue) &+ inside,
      permissions: request.permissions, access: file?.0.access ?? .unstated)
    _ = try client.request(
      .mapDMA(message), descriptors: file.map { [$0.0.descriptor] } ?? [])
  }

  private func file(behind request: MapRequest) -> (VFIOUserMemoryFile, offset: UInt64)? {
    guard
      let last = request.gpaFirst.advanced(byBytes: request.iova.lastOffset)
    else { return nil }
    let gpa = AddressRange(first: request.gpaFirst, last: last)
    guard book.way != .messages else { return nil }
    for file in files.withLock({ $0 }) {
      if let offset = file.offset(of: gpa) { return (file, offset) }
    }
    return nil
  }

  /// After a map that failed half way. A server that does not take it back keeps memory that nobody
  /// knows of any more.
  private func takeBack(_ pieces: [IOVARange]) -> Bool {
    for piece in pieces {
      let message = DMAUnmapMessage(first: piece.first.rawValue, size: piece.lastOffset + 1)
      if (try? client.request(.unmapDMA(message))) == nil {
        client.shutDown()
        return false
      }
    }
    return true
  }

  private static func errno(of error: MappingError) -> Int32 {
    switch error {
    case .overlap: ContainerErrno.eexist
    case .unaligned, .wouldBisect: ContainerErrno.einval
    case .tooManyMappings, .mappingTooLarge: ContainerErrno.enospc
    case .gpaOverflow: ContainerErrno.eoverflow
    }
  }

  // MARK: DMA by message

  public func read(into bytes: inout MutableRawSpan, at iova: IOVA) -> Int32 {
    guard let range = IOVARange(first: iova, byteCount: UInt64(bytes.byteCount)) else { return 0 }
    guard let memory, let pieces = book.translate(range, for: .read) else {
      return WireErrno.efault
    }
    var start = 0
    for (gpa, byteCount) in pieces {
      var part = bytes._mutatingExtracting(start..<start + byteCount)
      guard memory.read(into: &part, at: gpa) else { return WireErrno.efault }
      start += byteCount
    }
    return 0
  }

  public func write(_ bytes: RawSpan, at iova: IOVA) -> Int32 {
    guard let range = IOVARange(first: iova, byteCount: UInt64(bytes.byteCount)) else { return 0 }
    guard let memory, let pieces = book.translate(range, for: .write) else {
      return WireErrno.efault
    }
    // Marked also where a later piece fails: an earlier one was written.
    defer { book.record(range) }
    var start = 0
    for (gpa, byteCount) in pieces {
      guard memory.write(bytes.extracting(start..<start + byteCount), at: gpa) else {
        return WireErrno.efault
      }
      start += byteCount
    }
    return 0
  }

  // MARK: errors

  func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ errno: Int32, _ detail: String,
    isPartial: Bool = false
  ) -> ContainerError {
    ContainerError(
      operation, object: name, range: range, errno: errno, detail: detail, isPartial: isPartial)
  }

  func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ error: VFIOUserError,
    _ more: String = "", isPartial: Bool = false
  ) -> ContainerError {
    refused(
      operation, range, error.errno == 0 ? ContainerErrno.eio : error.errno, "\(error)\(more)",
      isPartial: isPartial)
  }
}
