import CSmudge
import TestSupport

/// One guest, its devices, the VMM between them and the library, and a copy of its memory.
/// The library is used through smudge.h alone.
///
/// Unsafe because that is C. Sound because every pointer handed over is to a local or to an object
/// of this world.
@safe final class LifeWorld {
  static let regionPageCount = 32
  static let iovaPageCount = 96
  /// Of the second region: above 4 GiB.
  static let highPage = 1 << 20

  /// How often each page was written, and as of when the destination has it.
  private(set) var written = [UInt32](repeating: 1, count: 2 * regionPageCount)
  private var copied = [UInt32](repeating: 0, count: 2 * regionPageCount)
  /// What was harvested and not answered for, with what was read then.
  private var inFlight: [UInt64: [(page: Int, value: UInt32)]] = [:]
  private(set) var random: SeededGenerator
  let devices: [LifeDevice]
  private var tracker: OpaquePointer?
  private var containers: [OpaquePointer?] = unsafe []
  private var reader: OpaquePointer?
  private var mapCount = 0
  private(set) var problems: [String] = []
  private(set) var acts = 0

  init(seed: UInt64, kinds: [LifeDevice.Kind], forgets: Bool = false) {
    random = SeededGenerator(seed: seed)
    devices = kinds.map(LifeDevice.init)
    for device in devices { device.forgets = forgets }
    var params = smudge_tracker_params()
    params.size = UInt32(MemoryLayout<smudge_tracker_params>.size)
    params.pinned_pages = UInt32(random.below(2))
    params.record_byte_count = random.once(in: 4) ? 64 << 10 : 0
    unsafe expect(smudge_tracker_create(&params, &tracker))
    for region in 0..<2 { addRegion(region) }
    for (number, device) in devices.enumerated() {
      var container: OpaquePointer?
      let result = unsafe "device \(number)".withCString { name in
        var params = unsafe device.params(name: name)
        return unsafe smudge_container_add(tracker, &params, &container)
      }
      expect(result)
      unsafe containers.append(container)
    }
    let flags = UInt32(SMUDGE_READER_STARTS_DIRTY)
    unsafe expect(smudge_reader_add(tracker, "copy", flags, &reader))
    unsafe expect(smudge_log_start(tracker, nil))
  }

  deinit {
    if unsafe smudge_tracker_destroy(tracker) != 0 { preconditionFailure("nobody is inside") }
  }

  private func expect(_ result: Int32, _ what: StaticString = #function) {
    guard result < 0 else { return }
    problems.append("\(what): \(result): \(unsafe String(cString: smudge_last_error()))")
  }

  private func addRegion(_ number: Int) {
    let result = unsafe "ram \(number)".withCString { name in
      var ram = unsafe smudge_ram()
      unsafe ram.size = UInt32(MemoryLayout<smudge_ram>.size)
      unsafe ram.gpa = Self.gpa(ofPage: number * Self.regionPageCount)
      unsafe ram.byte_count = UInt64(Self.regionPageCount) << 12
      unsafe ram.name = name
      return unsafe smudge_region_add(tracker, &ram)
    }
    expect(result)
  }

  static func gpa(ofPage page: Int) -> UInt64 {
    UInt64(page < regionPageCount ? page : page - regionPageCount + highPage) << 12
  }

  static func page(of gpa: UInt64) -> Int {
    let page = Int(gpa >> 12)
    return page < highPage ? page : page - highPage + regionPageCount
  }

  // MARK: the guest and its devices

  func act() {
    acts += 1
    let number = random.below(devices.count)
    switch random.below(16) {
    case 0, 1, 2: map(number)
    case 3, 4: unmap(number)
    case 5, 6, 7, 8: write(number)
    case 9, 10: vcpuWrites()
    case 11, 12: sync(0)
    case 13, 14: harvest(countMax: 1 + UInt64(random.below(20)))
    default: rare(number)
    }
  }

  private func rare(_ number: Int) {
    switch random.below(5) {
    case 0: devices[number].failuresLeft = 1 + random.below(2)
    case 1: answerForOne(isDelivered: random.once(in: 2))
    case 2: unsafe expect(smudge_container_devices_changed(containers[number]))
    case 3:
      // Everything goes, by the one word for it.
      devices[number].mapped = [:]
      unsafe expect(smudge_unmap(containers[number], 0, 0, nil))
    default: restart()
    }
  }

  /// What devices write while nobody logs is nobody's: they rest.
  private func restart() {
    unsafe expect(smudge_log_stop(tracker, nil))
    unsafe expect(smudge_log_start(tracker, nil))
  }

  private func iovaRange() -> Range<Int> {
    let first = random.below(Self.iovaPageCount - 8)
    return first..<(first + 1 + random.below(8))
  }

  private func map(_ number: Int) {
    let device = devices[number]
    let range = iovaRange()
    let region = random.below(2) * Self.regionPageCount
    let gpaPage = region + random.below(Self.regionPageCount - range.count + 1)
    let isWritable = !random.once(in: 5)
    let tellsAhead = random.once(in: 2)
    mapCount += 1
    // What was there goes first.
    for page in range { device.mapped[page] = nil }
    let flags =
      UInt32(SMUDGE_MAP_READ) | (isWritable ? UInt32(SMUDGE_MAP_WRITE) : 0)
      | (tellsAhead ? UInt32(SMUDGE_MAP_AHEAD) : 0)
    func reallyMap() {
      for (offset, page) in range.enumerated() {
        device.mapped[page] = LifeDevice.Target(
          gpaPage: gpaPage + offset, isWritable: isWritable, map: mapCount)
      }
    }
    if !tellsAhead {
      reallyMap()
      if random.once(in: 3) { write(number) }
    }
    unsafe expect(
      smudge_map(
        containers[number], UInt64(range.lowerBound) << 12, Self.gpa(ofPage: gpaPage),
        UInt64(range.count) << 12, flags))
    if tellsAhead { reallyMap() }
  }

  private func unmap(_ number: Int) {
    let device = devices[number]
    let range = iovaRange()
    for page in range { device.mapped[page] = nil }
    let (iova, size) = (UInt64(range.lowerBound) << 12, UInt64(range.count) << 12)
    let hasBitmap =
      device.kind == .exact || device.kind == .crossing || device.kind == .telling
    guard hasBitmap, random.once(in: 2), !device.forgets else {
      return unsafe expect(smudge_unmap(containers[number], iova, size, nil))
    }
    let words = device.takeBits(range)
    unsafe expect(smudge_unmap(containers[number], iova, size, words))
  }

  private func write(_ number: Int) {
    let device = devices[number]
    guard let (page, target) = device.mapped.randomElement(using: &random), target.isWritable
    else { return }
    written[target.gpaPage] += 1
    guard device.kind == .telling else {
      if device.isLogging { device.dirty.insert(page) }
      return
    }
    let iova = UInt64(page) << 12 + UInt64(random.below(4096))
    unsafe expect(smudge_device_wrote(containers[number], iova, 1))
  }

  private func vcpuWrites() {
    let page = random.below(2 * Self.regionPageCount)
    written[page] += 1
    guard random.once(in: 2) else {
      return unsafe expect(smudge_vcpu_wrote(tracker, Self.gpa(ofPage: page) + 8, 8))
    }
    let region = page / Self.regionPageCount * Self.regionPageCount
    var word = UInt64(1) << UInt64(page - region)
    unsafe expect(
      smudge_vcpu_bitmap(
        tracker, Self.gpa(ofPage: region), &word, UInt64(Self.regionPageCount)))
  }

  // MARK: the migration

  private func sync(_ flags: UInt32) {
    for device in devices { device.isSyncing = true }
    unsafe expect(smudge_log_sync(tracker, flags, nil))
    for device in devices { device.isSyncing = false }
  }

  private func harvest(countMax: UInt64) {
    var number: UInt64 = 0
    var pages: [Int] = []
    switch random.below(3) {
    case 0: pages = harvestRanges(countMax, &number)
    case 1: pages = harvestRuns(countMax, &number)
    default: pages = harvestBitmap(random.below(2), &number)
    }
    guard number != 0 else {
      if !pages.isEmpty { problems.append("pages without a harvest") }
      return
    }
    inFlight[number] = pages.map { (page: $0, value: written[$0]) }
    if random.once(in: 2) { answerForOne(isDelivered: !random.once(in: 4)) }
  }

  /// What a harvest returned says whether pages are left.
  private func expectLeft(_ result: Int32) {
    expect(result)
    var left: UInt64 = 0
    unsafe expect(smudge_reader_dirty_page_count(reader, &left))
    if result >= 0, result != (left > 0 ? 1 : 0) {
      problems.append("a harvest returned \(result), and \(left) pages are left")
    }
  }

  private func harvestRanges(_ countMax: UInt64, _ number: inout UInt64) -> [Int] {
    var ranges = [smudge_range](repeating: smudge_range(), count: 1 + random.below(4))
    var count: UInt32 = 0
    expectLeft(
      unsafe smudge_harvest_ranges(
        reader, countMax, &ranges, UInt32(ranges.count), &count, &number))
    return ranges.prefix(Int(count)).flatMap { Self.pages($0.gpa, $0.byte_count) }
  }

  private func harvestRuns(_ countMax: UInt64, _ number: inout UInt64) -> [Int] {
    final class Found { var pages: [Int] = [] }
    let found = Found()
    let run: smudge_run = { gpa, byteCount, opaque in
      guard let opaque = unsafe opaque else { return -22 }
      let found = unsafe Unmanaged<Found>.fromOpaque(opaque).takeUnretainedValue()
      found.pages += LifeWorld.pages(gpa, byteCount)
      return 0
    }
    let opaque = unsafe Unmanaged.passUnretained(found).toOpaque()
    expectLeft(unsafe smudge_harvest_runs(reader, countMax, run, opaque, &number))
    return found.pages
  }

  private func harvestBitmap(_ region: Int, _ number: inout UInt64) -> [Int] {
    var (word, count): (UInt64, UInt64) = (0, 0)
    let first = region * Self.regionPageCount
    expectLeft(
      unsafe smudge_harvest_bitmap(
        reader, Self.gpa(ofPage: first), &word, UInt64(Self.regionPageCount), &count, &number))
    if word.nonzeroBitCount != Int(count) { problems.append("\(count) pages in \(word)") }
    return (0..<Self.regionPageCount).filter { word >> UInt64($0) & 1 != 0 }.map { first + $0 }
  }

  private static func pages(_ gpa: UInt64, _ byteCount: UInt64) -> [Int] {
    let first = page(of: gpa)
    return Array(first..<(first + Int(byteCount >> 12)))
  }

  private func answerForOne(isDelivered: Bool) {
    guard let (number, pages) = inFlight.randomElement(using: &random) else { return }
    inFlight[number] = nil
    guard isDelivered else { return unsafe expect(smudge_put_back(reader, number)) }
    // A page that is in two harvests may arrive in any order; the newer one stays.
    for (page, value) in pages { copied[page] = max(copied[page], value) }
    unsafe expect(smudge_delivered(reader, number))
  }

  /// Devices and vCPUs have stopped: what is dirty now is sent, and the copy is compared.
  func finish() {
    while !inFlight.isEmpty { answerForOne(isDelivered: random.once(in: 2)) }
    sync(UInt32(SMUDGE_SYNC_FINAL))
    var isDone = false
    while !isDone, problems.isEmpty {
      var left: UInt64 = 0
      harvest(countMax: .max)
      while !inFlight.isEmpty { answerForOne(isDelivered: true) }
      unsafe expect(smudge_reader_dirty_page_count(reader, &left))
      isDone = left == 0
    }
    for page in copied.indices where copied[page] != written[page] {
      problems.append(
        "page \(page) was written \(written[page]) times, the copy is of \(copied[page])")
    }
    problems += devices.flatMap(\.violations)
  }
}
