public import Addressing
public import DMAContainer
import IOVAMapping
public import PageBitmap

extension VFIOUserContainer {
  /// DMA_UNMAP of each piece: the protocol knows no range across mappings.
  @discardableResult
  public func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    try unmapEach(.unmap, range) { (piece, _) throws(VFIOUserError) in
      try self.unmapPlainly(piece)
    }
  }

  /// DMA_UNMAP with the bitmap of each piece.
  @discardableResult
  public func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    precondition(capabilities.hasAtomicUnmap, "the server has no dirty log")
    guard let window = dirty.window else {
      throw refused(.unmapWithDirty, nil, ContainerErrno.einval, "no range was given")
    }
    return try unmapEach(.unmapWithDirty, window) { (piece, entry) throws(VFIOUserError) in
      try self.unmap(piece, of: entry, into: &dirty)
      // What this side wrote for the server, the last of it before the answer.
      self.book.takeDirty(piece, into: &dirty)
    }
  }

  /// Removes the mappings of a range one by one.
  private func unmapEach(
    _ operation: ContainerError.Operation, _ range: IOVARange,
    _ body: (IOVARange, ContainerBook.Entry) throws(VFIOUserError) -> Void
  ) throws(ContainerError) -> UInt64 {
    let entries: [ContainerBook.Entry]
    do throws(MappingError) { entries = try book.entries(in: range) } catch {
      throw refused(operation, range, ContainerErrno.einval, "\(error)")
    }
    var byteCount: UInt64 = 0
    var pieceCount = 0
    for entry in entries {
      do throws(VFIOUserError) {
        for piece in book.pieces(of: entry.mapping.iova) {
          try body(piece, entry)
          pieceCount += 1
        }
      } catch {
        // Whether a command that was not answered did anything is not known.
        throw refused(
          operation, range, error, isPartial: pieceCount > 0 || error.endsConnection)
      }
      book.remove(entry.mapping.iova)
      byteCount &+= entry.mapping.iova.lastOffset &+ 1
    }
    return byteCount
  }

  private func unmapPlainly(_ piece: IOVARange) throws(VFIOUserError) {
    let message = DMAUnmapMessage(first: piece.first.rawValue, size: piece.lastOffset &+ 1)
    do throws(VFIOUserError) {
      _ = try client.request(.unmapDMA(message))
    } catch {
      // Gone already: an unmap that failed half way is tried again.
      guard error.reason == .refused, error.errno == WireErrno.enoent else { throw error }
    }
  }

  private func unmap(
    _ piece: IOVARange, of entry: ContainerBook.Entry, into dirty: inout QueryBitmap
  ) throws(VFIOUserError) {
    guard book.way == .serverLog, entry.hasDescriptor, entry.mapping.isWritable else {
      return try unmapPlainly(piece)
    }
    guard let pageSize = book.trackedPageSize else {
      try unmapPlainly(piece)
      return dirty.insert(piece)
    }
    let (isGone, bitmap) = try unmap(piece, pageSize)
    if !isGone { try unmapPlainly(piece) }
    guard let bitmap else { return dirty.insert(piece) }
    WireBitmap.merge(
      bitmap, from: 0, first: piece.first, pageSize: pageSize, into: &dirty, outside: { _ in })
  }

  /// - Returns: whether it is unmapped for certain, and the bitmap where the server gave one.
  private func unmap(
    _ piece: IOVARange, _ pageSize: PageSize
  ) throws(VFIOUserError) -> (isGone: Bool, bitmap: [UInt8]?) {
    let size = piece.lastOffset &+ 1
    let byteCount = DMAUnmapMessage.bitmapByteCount(size: size, pageSize: pageSize.bytes)
    let message = DMAUnmapMessage(
      first: piece.first.rawValue, size: size,
      what: .rangeWithBitmap(pageSize: pageSize.bytes, byteCount: Int(byteCount)))
    do throws(VFIOUserError) {
      guard case .unmapDMA(let reply) = try client.request(.unmapDMA(message)).reply else {
        preconditionFailure("an answer has the form of its request")
      }
      return (true, reply.bitmap)
    } catch {
      guard error.reason == .refused || error.reason == .malformed else { throw error }
      return (false, nil)
    }
  }
}
