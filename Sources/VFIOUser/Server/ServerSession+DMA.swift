import Addressing
import DMAContainer
import PageBitmap

extension ServerSession {
  /// One mapping, as libvfio-user bounds it.
  private static let mappingByteCountMax: UInt64 = 8 << 40

  func map(
    _ message: DMAMapMessage, _ descriptors: [OwnedDescriptor]
  ) throws(VFIOUserError) {
    guard descriptors.count <= 1 else {
      throw malformed(.mapDMA, "\(descriptors.count) descriptors")
    }
    guard message.iova.lastOffset < Self.mappingByteCountMax else {
      throw refused(.mapDMA, WireErrno.enospc, "a mapping has at most 8 TiB")
    }
    if descriptors.isEmpty, message.access != .unstated {
      throw malformed(.mapDMA, "access by a descriptor, and none came")
    }
    let region = DMARegion(
      iova: message.iova, permissions: message.permissions,
      memory: descriptors.first.map {
        .file($0, offset: message.fileOffset, access: message.access)
      } ?? .byMessage)
    if let existing = table.first(overlapping: message.iova) {
      // The same once more is no second mapping.
      if existing.isSame(as: region) { return }
      throw refused(.mapDMA, WireErrno.eexist, "it overlaps IOVA \(existing.iova)")
    }
    guard table.count < options.mappingCountMax else {
      throw malformed(.mapDMA, "there are \(table.count) mappings")
    }
    try device.map(region)
    table.insert(region)
  }

  func unmap(_ message: DMAUnmapMessage) throws(VFIOUserError) -> DMAUnmapReply {
    if message.what == .everything {
      for region in table.regions(touching: .wholeSpace) { try remove(region) }
      return DMAUnmapReply(bitmap: nil)
    }
    guard let range = IOVARange(first: IOVA(message.first), byteCount: message.size),
      let region = table.exactly(range)
    else {
      throw refused(
        .unmapDMA, WireErrno.enoent,
        "no mapping is \(message.size) bytes at IOVA \(IOVA(message.first))")
    }
    guard case .rangeWithBitmap(let pageSize, let byteCount) = message.what else {
      try remove(region)
      return DMAUnmapReply(bitmap: nil)
    }
    guard loggedPageSize != nil else { throw malformed(.unmapDMA, "the log is off") }
    // Asked last: what was written until the device let go is in the answer.
    try device.unmap(region)
    _ = table.remove(region.iova)
    var builder = WireBitmap.bytes(of: range, pageSize: pageSize, byteCount: byteCount)
    do throws(VFIOUserError) {
      try collect(range, .unmapDMA) { builder.insert($0) }
    } catch {
      // It is unmapped, so the answer is no error: all of it counts as written.
      builder.insert(range)
    }
    return DMAUnmapReply(bitmap: builder.bytes)
  }

  /// Without asking what was written: it is forgotten.
  private func remove(_ region: DMARegion) throws(VFIOUserError) {
    try device.unmap(region)
    _ = table.remove(region.iova)
    // The client did not ask for it. What stays in the log after an error is reported too much.
    if loggedPageSize != nil { try? collect(region.iova, .unmapDMA) { _ in } }
  }

  // MARK: the log

  /// The largest range of one report: 2^40 pages of 4 KiB.
  private static let reportByteCountMax: UInt64 = 1 << 52
  /// Bits of one query of the device's log: 64 KiB, 2 GiB of IOVA.
  private static let queryByteCount: UInt64 = 64 << 10

  /// What the device's log has of a range, taken out of it.
  private func collect(
    _ range: IOVARange, _ command: VFIOUserCommand, _ body: (IOVARange) -> Void
  ) throws(VFIOUserError) {
    guard let log = device.dirtyLog, let pageSize = loggedPageSize else {
      throw malformed(command, "the log is off")
    }
    let whole = range.expanded(to: pageSize)
    let step = Self.queryByteCount * 8 * pageSize.bytes
    var first = whole.first
    while true {
      let last = min(first.advanced(byBytes: step - 1) ?? whole.last, whole.last)
      let window = AddressRange(first: first, last: last)
      do {
        var bitmap = try QueryBitmap(byteCountMax: Int(Self.queryByteCount))
        try bitmap.reset(window: window, pageSize: pageSize)
        try log.query(&bitmap, clear: true)
        bitmap.forEachDirtyRun(body)
      } catch let error as ContainerError {
        throw refused(command, error)
      } catch {
        throw refused(command, WireErrno.enomem, "\(error)")
      }
      guard last < whole.last, let next = last.advanced(byBytes: 1) else { return }
      first = next
    }
  }

  func startLogging(_ message: FeatureMessage) throws(VFIOUserError) -> FeatureMessage {
    let start = try LoggingStartMessage(decoding: message.data)
    guard let log = device.dirtyLog, let asked = PageSize(bytes: start.pageSize) else {
      throw malformed(.feature, "pages of \(start.pageSize) bytes")
    }
    let sizes = log.capabilities.pageSizes
    guard let pageSize = sizes.contains(asked) ? asked : sizes.smallest else {
      throw malformed(.feature, "the log has no page size")
    }
    if let running = loggedPageSize {
      guard running == pageSize else { throw malformed(.feature, "it logs in \(running)") }
    } else {
      do throws(ContainerError) {
        try log.start(logging: ranges(start.ranges, log, pageSize), pageSize: pageSize)
      } catch {
        throw refused(.feature, error)
      }
      loggedPageSize = pageSize
    }
    var answer = start
    answer.pageSize = pageSize.bytes
    return message.answer(answer.encoded())
  }

  /// As a log wants them: sorted, of whole pages, not overlapping; none where it follows mappings.
  private func ranges(
    _ ranges: [IOVARange], _ log: any DirtyLog, _ pageSize: PageSize
  ) -> [IOVARange] {
    guard log.capabilities.rangeCountMax != nil else { return [] }
    guard !ranges.isEmpty else { return [.wholeSpace] }
    var whole: [IOVARange] = []
    for range in ranges.map({ $0.expanded(to: pageSize) }).sorted(by: { $0.first < $1.first }) {
      if let open = whole.last, open.overlaps(range) || open.isFollowed(by: range) {
        whole[whole.count - 1] = AddressRange(
          first: open.first, last: max(open.last, range.last))
      } else {
        whole.append(range)
      }
    }
    return whole
  }

  func stopLogging(_ message: FeatureMessage) throws(VFIOUserError) -> FeatureMessage {
    if loggedPageSize != nil {
      do throws(ContainerError) { try device.dirtyLog?.stop() } catch {
        throw refused(.feature, error)
      }
      loggedPageSize = nil
    }
    return message.answer(message.data)
  }

  /// Any range, in pages of any power of two; what is not mapped is clean.
  func reportLogging(_ message: FeatureMessage) throws(VFIOUserError) -> FeatureMessage {
    let report = try LoggingReportMessage(decoding: message.data)
    guard let logged = loggedPageSize else { throw malformed(.feature, "the log is off") }
    let byteCount = report.bitmapByteCount
    guard byteCount <= UInt64(options.limits.bitmapByteCountMax),
      UInt64(message.argsz) >= 8 + 24 + byteCount
    else {
      throw malformed(.feature, "a bitmap of \(byteCount) bytes, and argsz \(message.argsz)")
    }
    guard report.range.first.isAligned(to: logged),
      report.range.lastOffset < Self.reportByteCountMax
    else { throw malformed(.feature, "a report about IOVA \(report.range)") }
    var builder = WireBitmap.bytes(
      of: report.range, pageSize: report.pageSize, byteCount: Int(byteCount))
    for region in table.regions(touching: report.range) {
      guard let part = region.iova.intersection(report.range) else { continue }
      try collect(part, .feature) { builder.insert($0) }
    }
    return message.answer(report.encoded() + builder.bytes)
  }
}
