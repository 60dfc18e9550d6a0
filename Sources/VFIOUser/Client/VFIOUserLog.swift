import Addressing
import DMAContainer
import PageBitmap

/// What the device behind a connection wrote: the server's own log (DMA_LOGGING_START, STOP and
/// REPORT), what this side wrote for it, or, where there is neither, everything mapped.
///
///     off ── start ──> logging ── stop ──> off        what was not read is lost by stop
///
/// The server's log follows its mappings: it is started without ranges, and what is mapped later is
/// logged too. A report is about whole pieces, as libvfio-user clears more than it reports of
/// parts.
final class VFIOUserLog: DirtyLog {
  let name: String
  private let client: VFIOUserClient
  private let book: ContainerBook

  init(name: String, client: VFIOUserClient, book: ContainerBook) {
    self.name = name
    self.client = client
    self.book = book
  }

  var capabilities: DirtyLogCapabilities {
    DirtyLogCapabilities(
      scope: book.way == .nothing ? .everythingMapped : .deviceLog,
      pageSizes: PageSizeSet(.fourKiB), mayCrossHoles: true, mayCutMapping: false, canPeek: false,
      granule: .page)
  }

  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    precondition(ranges.isEmpty, "the log follows the mappings")
    guard book.trackedPageSize == nil else {
      throw refused(.startLog, nil, ContainerErrno.einval, "it is started already")
    }
    if book.way == .serverLog {
      let message = LoggingStartMessage(pageSize: pageSize.bytes, ranges: [])
      let chosen: UInt64
      do throws(VFIOUserError) {
        let data = try client.feature(
          FeatureMessage(.startLogging, .set, data: message.encoded()))
        chosen = try LoggingStartMessage(decoding: data).pageSize
      } catch {
        throw refused(.startLog, nil, error)
      }
      guard chosen == pageSize.bytes else {
        try stopServer()
        throw refused(
          .startLog, nil, 0,
          "the server logs in pages of \(chosen) bytes, its user in \(pageSize); it is stopped"
            + " again")
      }
    }
    book.track(pageSize)
  }

  func stop() throws(ContainerError) {
    try stopServer()
    book.track(nil)
  }

  private func stopServer() throws(ContainerError) {
    guard book.way == .serverLog else { return }
    do throws(VFIOUserError) {
      _ = try client.feature(FeatureMessage(.stopLogging, .set))
    } catch {
      throw refused(.stopLog, nil, error)
    }
  }

  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    precondition(clear, "a device log reads and clears in one")
    guard let window = bitmap.window else {
      throw refused(.query, nil, ContainerErrno.einval, "no range was given")
    }
    guard let pageSize = book.trackedPageSize else {
      throw refused(.query, window, ContainerErrno.einval, "it is not started")
    }
    switch book.way {
    case .nothing: bitmap.markAll()
    case .messages: book.takeDirty(window, into: &bitmap)
    case .serverLog:
      // Asked first: what is written for the server meanwhile is taken too.
      try ask(window, pageSize, into: &bitmap)
      book.takeDirty(window, into: &bitmap)
    }
  }

  private func ask(
    _ window: IOVARange, _ pageSize: PageSize, into bitmap: inout QueryBitmap
  ) throws(ContainerError) {
    do throws(VFIOUserError) {
      if client.server.capabilities.reportsAnyRange == true {
        for piece in book.pieces(of: window) { try report(piece, pageSize, into: &bitmap) }
        return
      }
      for entry in book.entries(touching: window)
      where entry.hasDescriptor && entry.mapping.isWritable {
        for piece in book.pieces(of: entry.mapping.iova) where piece.overlaps(window) {
          try report(piece, pageSize, into: &bitmap)
        }
      }
    } catch {
      throw refused(.query, window, error)
    }
  }

  private func report(
    _ piece: IOVARange, _ pageSize: PageSize, into bitmap: inout QueryBitmap
  ) throws(VFIOUserError) {
    let message = LoggingReportMessage(range: piece, pageSize: pageSize.bytes)
    let header = LoggingReportMessage.byteCount
    let byteCount = header + Int(message.bitmapByteCount)
    let data = try client.feature(
      FeatureMessage(
        .reportLogging, .get, data: message.encoded(), answerByteCount: byteCount))
    // libvfio-user answers some ranges with success and nothing.
    guard data.count >= byteCount else {
      throw VFIOUserError(
        .malformed, object: name, operation: "DMA_LOGGING_REPORT",
        detail: "\(data.count) bytes came of \(byteCount)")
    }
    WireBitmap.merge(
      data, from: header, first: piece.first, pageSize: pageSize, into: &bitmap,
      outside: { book.record($0) })
  }

  private func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ errno: Int32, _ detail: String
  ) -> ContainerError {
    ContainerError(operation, object: name, range: range, errno: errno, detail: detail)
  }

  private func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ error: VFIOUserError
  ) -> ContainerError {
    refused(
      operation, range, error.errno == 0 ? ContainerErrno.eio : error.errno, "\(error)")
  }
}
