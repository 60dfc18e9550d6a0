import Addressing
import Testing
import VFIOUser

/// What a server answers, by what libvfio-user's own tests expect and the specification says.
@Suite struct ServerAnswerTests {
  /// IOVA of a page.
  static func page(_ number: UInt64, _ count: UInt64 = 1) -> IOVARange {
    AddressRange(first: IOVA(number << 12), last: IOVA(((number + count) << 12) - 1))
  }

  static func map(
    _ range: IOVARange, offset: UInt64 = 0, _ permissions: Permissions = .readWrite,
    _ access: DMAMapMessage.Access = .unstated
  ) -> VFIOUserRequest {
    .mapDMA(
      DMAMapMessage(iova: range, fileOffset: offset, permissions: permissions, access: access))
  }

  static func unmap(_ range: IOVARange) -> VFIOUserRequest {
    .unmapDMA(DMAUnmapMessage(first: range.first.rawValue, size: range.lastOffset + 1))
  }

  static func unmapDirty(_ range: IOVARange, pageSize: UInt64 = 4096) -> VFIOUserRequest {
    let pages = (range.lastOffset + pageSize) / pageSize
    return .unmapDMA(
      DMAUnmapMessage(
        first: range.first.rawValue, size: range.lastOffset + 1,
        what: .rangeWithBitmap(pageSize: pageSize, byteCount: Int((pages + 63) / 64 * 8))))
  }

  static func start(_ pageSize: UInt64 = 4096, _ ranges: [IOVARange] = []) -> VFIOUserRequest {
    .feature(
      FeatureMessage(
        .startLogging, .set,
        data: LoggingStartMessage(pageSize: pageSize, ranges: ranges).encoded()))
  }

  static let stop = VFIOUserRequest.feature(FeatureMessage(.stopLogging, .set))

  static func report(_ range: IOVARange, pageSize: UInt64 = 4096, argsz: Int? = nil)
    -> VFIOUserRequest
  {
    let message = LoggingReportMessage(range: range, pageSize: pageSize)
    return .feature(
      FeatureMessage(
        .reportLogging, .get, data: message.encoded(),
        answerByteCount: argsz ?? 24 + Int(message.bitmapByteCount)))
  }

  /// The bits an answer to a report has set.
  static func bits(_ message: RawPeer.Message?, from start: Int = 32) -> [Int]? {
    guard let message, message.errno == nil else { return nil }
    return message.payload.dropFirst(start).enumerated().flatMap { index, byte in
      (0..<8).filter { byte & (1 << UInt8($0)) != 0 }.map { index * 8 + $0 }
    }
  }

  // MARK: maps

  @Test func `maps are refused by name, and the same map again is no second one`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    let ram = TestRAM()
    func errno(_ request: VFIOUserRequest, _ descriptors: [OwnedDescriptor] = []) -> Int32? {
      raw.ask(request, descriptors)?.errno
    }
    let file = [ram.descriptor]
    #expect(errno(Self.map(Self.page(16, 4)), file) == nil)
    #expect(errno(Self.map(Self.page(16, 4)), file) == nil)
    #expect(raw.device.regionCount == 1)
    // Another offset, size, right, access or file is another mapping.
    #expect(errno(Self.map(Self.page(16, 4), offset: 4096), file) == 17)
    #expect(errno(Self.map(Self.page(16, 5)), file) == 17)
    #expect(errno(Self.map(Self.page(16, 4), .read), file) == 17)
    #expect(errno(Self.map(Self.page(16, 4), .readWrite, .file), file) == 17)
    #expect(errno(Self.map(Self.page(16, 4)), [TestRAM().descriptor]) == 17)
    #expect(errno(Self.map(Self.page(16, 4))) == 17)
    #expect(errno(Self.map(Self.page(19, 1)), file) == 17)
    #expect(errno(Self.map(Self.page(12, 100)), file) == 17)
    // Access by a descriptor needs one, and only one.
    #expect(errno(Self.map(Self.page(32), .readWrite, .mapped)) == 22)
    #expect(errno(Self.map(Self.page(32), .readWrite, .file)) == 22)
    #expect(errno(Self.map(Self.page(32)), [ram.descriptor, ram.descriptor]) == 22)
    // Sizes are any; 8 TiB is the most.
    let odd = AddressRange(first: IOVA(0x9_0000), last: IOVA(0x9_0063))
    #expect(errno(Self.map(odd), file) == nil)
    #expect(errno(Self.map(Self.page(1 << 40, 1 << 31))) == nil)
    #expect(errno(Self.map(Self.page(1 << 42, 1 << 31 | 1))) == 28)
    #expect(raw.device.regionCount == 3)
    raw.device.refuseMaps(12)
    #expect(errno(Self.map(Self.page(64)), file) == 12)
    raw.device.refuseMaps(0)
    #expect(errno(Self.map(Self.page(64)), file) == nil)
  }

  @Test func `payloads of a map that say nothing sound are EINVAL, and the connection stays up`()
    throws
  {
    let raw = try RawClient()
    defer { raw.close() }
    func payload(
      argsz: UInt32 = 32, flags: UInt32 = 3, offset: UInt64 = 0, iova: UInt64 = 0x1000,
      size: UInt64 = 0x1000
    ) -> [UInt8] {
      var bytes: [UInt8] = []
      for word in [argsz, flags] {
        bytes += (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) }
      }
      for word in [offset, iova, size] {
        bytes += (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) }
      }
      return bytes
    }
    for wrong in [
      payload(argsz: 31), payload(flags: 16), payload(flags: 0x8000_0000), payload(size: 0),
      payload(iova: UInt64.max, size: 2), payload(offset: UInt64.max, size: 2),
      payload(size: UInt64.max), Array(payload().dropLast()), [],
    ] {
      #expect(raw.ask(2, wrong)?.errno == 22, "\(wrong)")
    }
    #expect(raw.ask(2, payload())?.errno == nil)
  }

  @Test func `an unmap is of exactly one mapping, or of all`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    for number in [16, 20, 32] as [UInt64] {
      #expect(raw.ask(Self.map(Self.page(number, 4)))?.errno == nil)
    }
    for wrong in [
      Self.page(16, 3), Self.page(17, 3), Self.page(16, 8), Self.page(18), Self.page(40, 4),
      Self.page(15, 20), Self.page(0, 1 << 47),
    ] {
      #expect(raw.ask(Self.unmap(wrong))?.errno == 2, "\(wrong)")
    }
    #expect(raw.ask(.unmapDMA(DMAUnmapMessage(first: 0x1_0000, size: 0)))?.errno == 2)
    #expect(raw.ask(.unmapDMA(DMAUnmapMessage(first: UInt64.max, size: 2)))?.errno == 2)
    let answer = raw.ask(Self.unmap(Self.page(20, 4)))
    // The 24 bytes again.
    #expect(answer?.payload == Self.unmap(Self.page(20, 4)).encoded())
    #expect(raw.device.regionCount == 2)
    // While the log is off there is no bitmap.
    #expect(raw.ask(Self.unmapDirty(Self.page(16, 4)))?.errno == 22)
    #expect(raw.device.regionCount == 2)
    // A device that does not let go keeps its mapping.
    raw.device.refuseUnmaps(16)
    #expect(raw.ask(Self.unmap(Self.page(16, 4)))?.errno == 16)
    raw.device.refuseUnmaps(0)
    let all = VFIOUserRequest.unmapDMA(DMAUnmapMessage(first: 0, size: 0, what: .everything))
    #expect(raw.ask(all)?.errno == nil)
    #expect(raw.ask(all)?.errno == nil)
    #expect(raw.device.regionCount == 0)
  }

  // MARK: dirty pages

  @Test func `a log starts, stops and starts again as libvfio-user's does`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    #expect(raw.ask(Self.map(Self.page(16, 4)))?.errno == nil)
    #expect(raw.ask(Self.report(Self.page(16, 4)))?.errno == 22)
    #expect(raw.ask(Self.start(0))?.errno == 22)
    #expect(raw.ask(Self.start(4097))?.errno == 22)
    #expect(raw.ask(Self.start(2048))?.errno == 22)
    let answer = raw.ask(Self.start())
    #expect(answer?.errno == nil)
    #expect(answer?.payload.count == 8 + 16)
    // The same again is nothing; another size is EINVAL while it runs.
    #expect(raw.ask(Self.start())?.errno == nil)
    #expect(raw.ask(Self.start(8192))?.errno == 22)
    #expect(raw.ask(Self.stop)?.errno == nil)
    #expect(raw.ask(Self.stop)?.errno == nil)
    #expect(raw.ask(Self.report(Self.page(16, 4)))?.errno == 22)
    #expect(raw.ask(Self.start(8192, [Self.page(16, 4), Self.page(0)]))?.errno == nil)
  }

  @Test func `reports are of any range, in any page size, without false bits`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    let ram = TestRAM()
    #expect(raw.ask(Self.map(Self.page(16, 64)), [ram.descriptor])?.errno == nil)
    #expect(raw.ask(Self.map(Self.page(80, 16), offset: 64 << 12), [ram.descriptor])?.errno == nil)
    #expect(raw.ask(Self.start())?.errno == nil)
    func write(_ pages: UInt64...) {
      for page in pages { #expect(raw.device.write([9], at: IOVA(page << 12 | 8)) != nil) }
    }
    // Trap 2: a report of a part takes no bit of another part away.
    write(16, 17, 56)
    #expect(Self.bits(raw.ask(Self.report(Self.page(16, 32)))) == [0, 1])
    #expect(Self.bits(raw.ask(Self.report(Self.page(16, 64)))) == [40])
    #expect(Self.bits(raw.ask(Self.report(Self.page(16, 64)))) == [])
    // Trap 1: one that begins inside of a mapping, or where nothing is.
    write(30)
    #expect(Self.bits(raw.ask(Self.report(Self.page(20, 20)))) == [10])
    #expect(Self.bits(raw.ask(Self.report(Self.page(0x1000, 20)))) == [])
    // Trap 3: across two mappings and what is not mapped.
    write(79, 80, 95)
    #expect(Self.bits(raw.ask(Self.report(Self.page(0, 200)))) == [79, 80, 95])
    // Trap 4: larger pages, and smaller ones.
    write(18, 95)
    #expect(Self.bits(raw.ask(Self.report(Self.page(16, 80), pageSize: 8192))) == [1, 39])
    write(17)
    #expect(Self.bits(raw.ask(Self.report(Self.page(16, 2), pageSize: 2048))) == [2, 3])
    // What is written after it was unmapped and mapped again is new; what was before is forgotten.
    write(81)
    #expect(raw.ask(Self.unmap(Self.page(80, 16)))?.errno == nil)
    #expect(raw.ask(Self.map(Self.page(80, 16), offset: 64 << 12), [ram.descriptor])?.errno == nil)
    #expect(Self.bits(raw.ask(Self.report(Self.page(80, 16)))) == [])
  }

  @Test func `a report says no to what has no answer`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    #expect(raw.ask(Self.start())?.errno == nil)
    #expect(raw.ask(Self.report(Self.page(16, 64), argsz: 31))?.errno == 22)
    #expect(raw.ask(Self.report(Self.page(0, 1 << 24)))?.errno == 22)
    #expect(raw.ask(Self.report(Self.page(0, 1 << 41), pageSize: 1 << 40))?.errno == 22)
    let odd = AddressRange(first: IOVA(0x1800), last: IOVA(0x27ff))
    #expect(raw.ask(Self.report(odd))?.errno == 22)
    #expect(raw.ask(Self.report(Self.page(16), pageSize: 3000))?.errno == 22)
  }

  @Test func `an unmap gives its bitmap, in any page size`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    let ram = TestRAM()
    #expect(raw.ask(Self.start())?.errno == nil)
    for (first, offset) in [(16, 0), (200, 100)] as [(UInt64, UInt64)] {
      let map = Self.map(Self.page(first, 100), offset: offset << 12)
      #expect(raw.ask(map, [ram.descriptor])?.errno == nil)
    }
    // Written while it is unmapped: in the answer.
    let device = raw.device
    device.beforeUnmap { region in
      _ = device.write([1], at: IOVA(region.iova.first.rawValue + 99 << 12))
    }
    _ = raw.device.write([1], at: IOVA(17 << 12))
    let answer = raw.ask(Self.unmapDirty(Self.page(16, 100)))
    #expect(answer?.payload.count == 40 + 16)
    #expect(Self.bits(answer, from: 40) == [1, 99])
    let larger = raw.ask(Self.unmapDirty(Self.page(200, 100), pageSize: 16384))
    #expect(Self.bits(larger, from: 40) == [24])
    #expect(raw.device.regionCount == 0)
    raw.device.beforeUnmap(nil)
  }

  // MARK: the device

  @Test func `regions, interrupts and what is none of them`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    let device = raw.ask(.deviceInformation)
    #expect(device?.payload == [16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0])
    #expect(raw.ask(.regionInformation(index: 9, argsz: 64))?.errno == 22)
    #expect(raw.ask(.irqInformation(index: 5))?.errno == 22)
    #expect(raw.ask(.regionIODescriptors(index: 0, argsz: 64))?.errno == 22)
    // Without a descriptor a region cannot be mapped; with one, only the whole answer has it.
    let bare = raw.ask(.regionInformation(index: 1, argsz: 32))
    #expect(bare?.payload.count == 32 && bare?.payload[4] == 3)
    let probe = DescriptorProbe()
    raw.device.giveRegion(probe.take())
    let cut = raw.ask(.regionInformation(index: 1, argsz: 32))
    #expect(cut?.payload.count == 32 && cut?.payload[0] == 80 && cut?.descriptors.count == 0)
    let whole = raw.ask(.regionInformation(index: 1, argsz: 80))
    #expect(whole?.payload.count == 80 && whole?.descriptors.count == 1)
    raw.device.giveRegion(nil)
    for (region, offset) in [(0, 60), (0xdead_beef, 0)] as [(UInt32, UInt64)] {
      let access = RegionAccess(region: region, offset: offset, byteCount: 5)
      #expect(raw.ask(.regionRead(access))?.errno == 22)
    }
    let write = VFIOUserRequest.regionWrite(
      RegionAccess(region: 0, offset: 4, byteCount: 3), [7, 8, 9])
    #expect(raw.ask(write)?.payload == RawClient.access(0, 4, 3))
    let read = raw.ask(.regionRead(RegionAccess(region: 0, offset: 3, byteCount: 5)))
    #expect(read?.payload == RawClient.access(0, 3, 5) + [0, 7, 8, 9, 0])
    let empty = raw.ask(.regionRead(RegionAccess(region: 0, offset: 3, byteCount: 0)))
    #expect(empty?.payload == RawClient.access(0, 3, 0))
    let multi = VFIOUserRequest.regionWriteMulti([
      SmallRegionWrite(region: 0, offset: 0, bytes: [1, 2]),
      SmallRegionWrite(region: 0, offset: 63, bytes: [3]),
    ])
    #expect(raw.ask(multi)?.payload == [2, 0, 0, 0, 0, 0, 0, 0])
    #expect(raw.ask(.reset)?.errno == nil)
    #expect(raw.device.resetCount == 1)
  }

  @Test func `interrupts take as many descriptors as they count, or none`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    let ram = TestRAM()
    func set(
      _ index: UInt32, _ start: UInt32, _ count: UInt32, _ values: SetIRQsMessage.Values,
      descriptors: Int = 0
    ) -> Int32? {
      let message = SetIRQsMessage(
        index: index, start: start, count: count, action: .trigger, values: values)
      return raw.ask(
        .setIRQs(message), (0..<descriptors).map { _ in ram.descriptor })?.errno
    }
    #expect(set(2, 0, 3, .eventDescriptors, descriptors: 3) == nil)
    #expect(raw.device.eventDescriptorCount == 3)
    #expect(set(2, 0, 3, .eventDescriptors, descriptors: 2) == 22)
    #expect(set(2, 0, 3, .eventDescriptors) == nil)
    #expect(set(2, 0, 0, .none) == nil)
    #expect(set(2, 30, 3, .none) == 22)
    #expect(set(2, .max, 0, .none) == 22)
    #expect(set(5, 0, 0, .none) == 22)
    #expect(set(0, 0, 1, .none, descriptors: 1) == 22)
    #expect(set(2, 4, 2, .truths([true, false])) == nil)
    #expect(raw.device.interrupts.last?.values == .truths([true, false]))
  }

  @Test func `what no device has is EINVAL, and the connection stays up`() throws {
    var options = TestPair.Options()
    options.device.hasLog = false
    let raw = try RawClient(options)
    defer { raw.close() }
    for command in [0, 11, 12, 14, 19, 0xffff] as [UInt16] {
      #expect(raw.ask(command, [UInt8](repeating: 0, count: 40))?.errno == 22)
    }
    for command in VFIOUserCommand.allCases where command != .reset {
      #expect(raw.ask(command.rawValue, [])?.errno == 22, "\(command)")
    }
    #expect(raw.ask(.version(VersionMessage(minor: 2, capabilities: .init())))?.errno == 22)
    #expect(raw.ask(Self.start())?.errno == 22)
    #expect(raw.ask(Self.stop)?.errno == 22)
    for feature in VFIOUserFeature.allCases {
      for use in [.get, .set, .probe(get: true, set: false)] as [FeatureMessage.Use] {
        #expect(raw.ask(.feature(FeatureMessage(feature, use, answerByteCount: 64)))?.errno == 22)
      }
    }
    #expect(raw.ask(.migrationRead(byteCount: 10))?.errno == 22)
    #expect(raw.ask(.migrationWrite([1]))?.errno == 22)
    #expect(raw.ask(.deviceInformation)?.errno == nil)
  }

  @Test func `a probe is for every use it names`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    func probe(_ feature: VFIOUserFeature, _ get: Bool, _ set: Bool) -> Bool {
      raw.ask(.feature(FeatureMessage(feature, .probe(get: get, set: set))))?.errno == nil
    }
    #expect(probe(.startLogging, false, true))
    #expect(!probe(.startLogging, true, true))
    #expect(!probe(.startLogging, true, false))
    #expect(probe(.reportLogging, true, false))
    #expect(!probe(.reportLogging, true, true))
    #expect(!probe(.migration, true, false))
  }
}

extension RawClient {
  static func access(_ region: UInt8, _ offset: UInt8, _ count: UInt8) -> [UInt8] {
    [offset, 0, 0, 0, 0, 0, 0, 0, region, 0, 0, 0, count, 0, 0, 0]
  }
}
