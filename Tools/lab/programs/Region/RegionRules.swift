/// What a migration region of v1 refuses, asked of the lab's driver directly: what the module under
/// test is held against must be strict itself.
struct RegionRules {
  private static let ok: Int32 = 0
  private static let ebusy: Int32 = 16
  private static let einval: Int32 = 22
  private static let reset: UInt = 0x3b6f

  private let registers: RegionRegisters
  private let file: KernelFile

  init(_ file: KernelFile) {
    self.file = file
    registers = RegionRegisters(file: file)
  }

  func run(into result: inout LabResult) throws {
    try transitions(into: &result)
    try registersAtRest(into: &result)
    try saving(into: &result)
    try resuming(into: &result)
  }

  private func resetDevice() throws {
    let errno = file.control(Self.reset)
    if errno != 0 { throw LabError("VFIO_DEVICE_RESET: \(Errno.name(-errno))") }
  }

  private func expect(
    _ sentence: String, _ errno: Int32, _ wanted: Int32, into result: inout LabResult
  ) {
    result.expect(sentence, Errno.name(errno), is: Errno.name(wanted))
  }

  // MARK: device_state

  /// By bits: where the device may go from each state, and how it is brought there.
  private static let arcs: [(from: UInt64, path: [UInt64], to: Set<UInt64>)] = [
    (1, [], [0, 2, 3, 4]), (3, [3], [1, 2]), (2, [2], [1]), (0, [0], [1, 2, 4]), (4, [4], []),
  ]

  /// Every state, every value. Refused are those that leave data behind as well: from
  /// stop-and-copy to stopped, from resuming to running.
  private func transitions(into result: inout LabResult) throws {
    var wrong: [String] = []
    var refused = 0
    for (from, path, targets) in Self.arcs {
      for target in 0..<UInt64(8) {
        try resetDevice()
        for state in path { _ = registers.setState(state) }
        guard registers.state == from else { throw LabError("state \(from) is not reached") }
        let errno = registers.setState(target)
        let isArc = targets.contains(target) || target == from
        let breaks = from == 4 && target == 1
        let expected = isArc ? Self.ok : from == 2 && target == 0 ? Self.ebusy : Self.einval
        let end = isArc ? target : breaks ? 6 : from
        if errno != 0 { refused += 1 }
        if errno != expected || registers.state != end {
          let now = registers.state.map(String.init) ?? "?"
          wrong.append("\(from) to \(target): \(Errno.name(errno)), then \(now)")
        }
      }
    }
    result.check(
      "\(refused) of 40 transitions are refused, and change nothing but a broken load",
      wrong.isEmpty && refused == 25, wrong.joined(separator: "; "))
    // Broken: only a reset leads out.
    _ = registers.setState(4)
    _ = registers.setState(1)
    let out = (0..<UInt64(8)).filter { registers.setState($0) == 0 }
    result.check("no value leads out of the error state", out.isEmpty, "\(out)")
    try resetDevice()
    result.expect("a reset does, to running", registers.state, is: 1)
    expect(
      "the driver's own bits are not the user's to change",
      registers.write(.deviceState, 1), Self.einval, into: &result)
    result.expect("and stay", registers.state, is: 1)
  }

  private func registersAtRest(into result: inout LabResult) throws {
    for register in [RegionRegisters.Register.pendingBytes, .dataOffset, .dataSize] {
      expect(
        "\(register) of a device that runs", registers.read(register).errno, Self.einval,
        into: &result)
      expect(
        "\(register) written then", registers.write(register, 8), Self.einval, into: &result)
    }
    for (offset, byteCount) in [(UInt64(0), 2), (0, 8), (4, 4), (8, 4), (12, 8), (24, 16)] {
      expect(
        "\(byteCount) bytes at \(offset)", registers.readBytes(offset, byteCount).errno,
        Self.einval, into: &result)
    }
    expect(
      "data without a chunk", registers.readBytes(4096, 8).errno, Self.einval, into: &result)
    expect("data past the end", registers.readBytes(0x5000, 8).errno, Self.einval, into: &result)
  }

  // MARK: saving

  private func saving(into result: inout LabResult) throws {
    _ = registers.setState(3)
    func refuse(_ sentence: String, _ errno: Int32, _ wanted: Int32 = Self.einval) {
      expect(sentence, errno, wanted, into: &result)
    }
    refuse("data_offset before pending_bytes", registers.read(.dataOffset).errno)
    let pending = registers.read(.pendingBytes)
    result.check("bytes are pending", pending.errno == 0 && pending.value > 65536)
    result.expect(
      "asked twice, the same", registers.read(.pendingBytes).value, is: pending.value)
    refuse("data_size before data_offset", registers.read(.dataSize).errno)
    let offset = registers.read(.dataOffset).value
    refuse("data before data_size", registers.readBytes(offset, 8).errno)
    refuse("pending_bytes before data_size", registers.read(.pendingBytes).errno, Self.ebusy)
    let size = registers.read(.dataSize).value
    result.expect("data_offset asked twice", registers.read(.dataOffset).value, is: offset)
    result.expect("data_size asked twice", registers.read(.dataSize).value, is: size)
    refuse("more data than there is", registers.readBytes(offset, Int(size) + 8).errno)
    refuse("data written while saving", registers.writeBytes([1, 2, 3, 4], offset))
    refuse("data_size written while saving", registers.write(.dataSize, size))
    _ = registers.readBytes(offset, Int(size) - 8)
    refuse("unread data acknowledged", registers.read(.pendingBytes).errno, Self.ebusy)
    refuse("from pre-copy to stop-and-copy with it", registers.setState(2), Self.ok)
    refuse("and acknowledged there", registers.read(.pendingBytes).errno, Self.ebusy)
    _ = registers.readBytes(offset + size - 8, 8)
    let left = registers.read(.pendingBytes)
    result.check("read to its end it is done with", left.errno == 0 && left.value < pending.value)
    refuse("stopped with bytes pending", registers.setState(0), Self.ebusy)
    var count = 0
    while registers.read(.pendingBytes).value > 0, count < 100 {
      _ = readChunk()
      count += 1
    }
    refuse("stopped when all was read", registers.setState(0), Self.ok)
    refuse("pending_bytes then", registers.read(.pendingBytes).errno)
    try resetDevice()
  }

  /// After `pending_bytes` was read.
  private func readChunk() -> [UInt8] {
    let offset = registers.read(.dataOffset).value
    return registers.readBytes(offset, Int(registers.read(.dataSize).value)).bytes
  }

  // MARK: resuming

  private func resuming(into result: inout LabResult) throws {
    _ = registers.setState(2)
    var chunks: [[UInt8]] = []
    while registers.read(.pendingBytes).value > 0, chunks.count < 100 { chunks.append(readChunk()) }
    result.check("a state of several chunks", chunks.count > 5)
    func refuse(_ sentence: String, _ errno: Int32, _ wanted: Int32 = Self.einval) {
      expect(sentence, errno, wanted, into: &result)
    }
    try resetDevice()
    _ = registers.setState(4)
    refuse("data_size before data_offset", registers.write(.dataSize, 8))
    refuse("data before data_offset", registers.writeBytes(chunks[0], 4096))
    refuse("pending_bytes while resuming", registers.read(.pendingBytes).errno)
    let offset = registers.read(.dataOffset).value
    refuse("data_size read while resuming", registers.read(.dataSize).errno)
    refuse("data read while resuming", registers.readBytes(offset, 8).errno)
    let size = UInt64(chunks[0].count)
    _ = registers.writeBytes(Array(chunks[0].dropLast(8)), offset)
    refuse("data_size over what was written", registers.write(.dataSize, size), Self.ebusy)
    _ = registers.writeBytes(Array(chunks[0].suffix(8)), offset + size - 8)
    refuse("data_size of the whole", registers.write(.dataSize, size), Self.ok)
    refuse("a chunk twice", load(chunks[0]))
    result.expect("is an error for good", registers.state, is: 6)

    try resetDevice()
    _ = registers.setState(4)
    refuse("a chunk cut otherwise", load(Array(chunks[0].dropLast(16))))
    result.expect("is an error too", registers.state, is: 6)

    try resetDevice()
    _ = registers.setState(4)
    for chunk in chunks.dropLast() { _ = load(chunk) }
    refuse("running before the last chunk", registers.setState(1))
    result.expect("is an error", registers.state, is: 6)

    try resetDevice()
    _ = registers.setState(4)
    result.check("all chunks load", chunks.allSatisfy { load($0) == 0 })
    refuse("running with them", registers.setState(1), Self.ok)
    try resetDevice()
  }

  private func load(_ chunk: [UInt8]) -> Int32 {
    let offset = registers.read(.dataOffset).value
    let errno = registers.writeBytes(chunk, offset)
    return errno != 0 ? errno : registers.write(.dataSize, UInt64(chunk.count))
  }
}
