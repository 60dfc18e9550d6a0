public import DeviceMigration

extension SimulatedV1Device {
  public func readPendingBytes() throws(DeviceError) -> UInt64 {
    var pending: UInt64 = 0
    let lies = try call("read pending_bytes") { inside in
      guard inside.state.isSaving, let saver = inside.saver else { return .einval }
      switch inside.step {
      case .prepared, .sized: return Self.broken(&inside)
      case .acknowledged, .announced, .read:
        // The chunk before is acknowledged: the device forgets it.
        inside.chunk = []
        inside.step = .announced
      }
      var count = saver.initialByteCount(inside.image) + saver.dirtyByteCount(inside.image)
      if inside.state == .stopCopy { count += saver.finalByteCount() }
      pending = UInt64(count)
      return .none
    }
    // A device of this interface stops giving when it says 0: the truth where that is the end.
    if pending == 0 { return 0 }
    return lies ? max(pending, 1) << 40 : faults.claimed(pending)
  }

  public func readDataOffset() throws(DeviceError) -> UInt64 {
    var offset: UInt64 = 0
    let lies = try call("read data_offset") { inside in
      if inside.state == .resuming {
        offset = Self.offset(of: inside.sequence)
        inside.offset = offset
        inside.section = []
        return .none
      }
      guard inside.state.isSaving else { return .einval }
      switch inside.step {
      case .acknowledged: return Self.broken(&inside)
      case .announced:
        self.prepare(&inside)
        if inside.chunk.isEmpty { return .einval }
        inside.step = .prepared
      // Until pending_bytes is read again, the same chunk.
      case .prepared, .sized, .read: inside.step = .prepared
      }
      offset = inside.offset
      return .none
    }
    return lies ? UInt64.max - 8 : offset
  }

  public func readDataSize() throws(DeviceError) -> UInt64 {
    var size: UInt64 = 0
    let lies = try call("read data_size") { inside in
      guard inside.state.isSaving else { return .einval }
      guard inside.step == .prepared || inside.step == .sized else { return Self.broken(&inside) }
      inside.step = .sized
      size = UInt64(inside.chunk.count)
      return .none
    }
    return lies ? regionByteCount : size
  }

  public func readData(
    atRegionOffset offset: UInt64, into buffer: inout MutableRawSpan
  ) throws(DeviceError) {
    var bytes: [UInt8] = []
    let byteCount = buffer.byteCount
    let lies = try call("read data") { inside in
      guard inside.state.isSaving, inside.step == .sized, offset == inside.offset,
        byteCount == inside.chunk.count
      else { return Self.broken(&inside) }
      inside.step = .read
      bytes = inside.chunk
      return .none
    }
    if lies { throw refusal("read data", .eio) }
    DeviceBytes.copy(bytes, 0..<bytes.count, into: &buffer)
  }

  public func writeData(
    _ bytes: RawSpan, atRegionOffset offset: UInt64
  ) throws(DeviceError) {
    let section = DeviceBytes.copy(bytes)
    try call("write data") { inside in
      guard inside.state == .resuming else { return .einval }
      guard offset == inside.offset, offset != 0 else { return Self.broken(&inside) }
      inside.section = section
      return .none
    }
  }

  public func writeDataSize(_ value: UInt64) throws(DeviceError) {
    try call("write data_size") { inside in
      guard inside.state == .resuming else { return .einval }
      guard inside.offset != 0, UInt64(inside.section.count) == value,
        self.take(&inside)
      else { return Self.broken(&inside) }
      inside.sequence += 1
      inside.offset = 0
      return .none
    }
  }

  private static func broken(_ inside: inout Inside) -> DeviceErrno {
    inside.enterError()
    return .eio
  }

  /// Chunks lie at one of three places in turn, so that nobody can count on the first.
  private static func offset(of sequence: UInt32) -> UInt64 {
    sectionOffset + UInt64(sequence % 3) * UInt64(chunkByteCountMax)
  }

  /// Chunks are of differing sizes, so that a boundary moved is a boundary missed.
  private func prepare(_ inside: inout Inside) {
    guard var saver = inside.saver else { return }
    let pages = 1 + Int(inside.sequence * 5 % UInt32(Self.pagesPerChunkMax))
    let records = saver.next(
      &inside.image, pageCountMax: pages, isStopped: inside.state == .stopCopy)
    inside.saver = saver
    guard !records.isEmpty else { return }
    inside.chunk = (0..<4).map { UInt8(truncatingIfNeeded: inside.sequence >> (8 * $0)) } + records
    inside.offset = Self.offset(of: inside.sequence)
    inside.sequence += 1
  }

  private func take(_ inside: inout Inside) -> Bool {
    guard inside.section.count > 4 else { return false }
    var number: UInt32 = 0
    for index in 0..<4 { number |= UInt32(inside.section[index]) << UInt32(8 * index) }
    guard number == inside.sequence,
      inside.loader?.take(Array(inside.section[4...])) == true
    else { return false }
    return inside.loader?.isAtBoundary == true
  }
}
