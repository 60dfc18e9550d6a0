import Addressing
import DMAContainer
import PageBitmap
import TestSupport
import Testing
import VFIOKernel

/// The bytes of each request, as linux/vfio.h lays them out.
@Suite struct Type1EncodingTests {
  static func bitmap(_ window: IOVARange) -> QueryBitmap { ContainerDriver.bitmap(window) }

  @Test func `a map says where memory is, where it goes and what it grants`() throws {
    let world = try Type1World(.pinned)
    let range = Type1World.range(0x100, 3)
    for (permissions, flags) in [(Permissions.read, 1), (.write, 2), (.readWrite, 3)] {
      world.kernel.plan(nil)
      try world.container.map(
        MapRequest(
          iova: range, gpaFirst: world.ram.gpa.first, hvaFirst: world.fake.hvaFirst,
          permissions: permissions))
      let expected = Bytes.structure(
        32 as UInt32, UInt32(flags), world.fake.hvaFirst.rawValue, 0x10_0000 as UInt64,
        0x3000 as UInt64)
      #expect(world.kernel.calls(.mapDMA).map(\.argument) == [expected])
      try world.container.unmap(range)
    }
  }

  @Test func `an unmap says what, and that of everything says all`() throws {
    let world = try Type1World(.pinned)
    try world.map(0x100, 3)
    world.kernel.plan(nil)
    #expect(try world.container.unmap(Type1World.range(0x100, 3)) == 0x3000)
    #expect(try world.container.unmap(.wholeSpace) == 0)
    #expect(
      world.kernel.calls(.unmapDMA).map(\.argument) == [
        Bytes.structure(24 as UInt32, 0 as UInt32, 0x10_0000 as UInt64, 0x3000 as UInt64),
        Bytes.structure(24 as UInt32, 2 as UInt32, 0 as UInt64, 0 as UInt64),
      ])
  }

  @Test func `an unmap in two halves says that the lower one is gone when the upper one fails`()
    throws
  {
    var options = FakeContainer.Options()
    options.hasUnmapAll = false
    var partialCount = 0
    for ordinal in 1...4 {
      let world = try Type1World(.pinned, options: options)
      try world.map(0x100, 3)
      try world.map(1 << 51, 2)
      let before = world.fake.mappings
      // An error of checks: by itself it says that nothing was removed.
      world.kernel.plan(.init(ordinal: ordinal, errno: ContainerErrno.einval, moment: .before))
      do throws(ContainerError) {
        _ = try world.container.unmap(.wholeSpace)
        #expect(world.fake.mappings == [])
      } catch {
        #expect(error.isPartial == (world.fake.mappings != before), "call \(ordinal)")
        if error.isPartial { partialCount += 1 }
      }
    }
    #expect(partialCount == 1)
  }

  @Test func `without unmap all everything is two halves, the last page left out`() throws {
    var options = FakeContainer.Options()
    options.hasUnmapAll = false
    options.isSoundAtTheTop = false
    let world = try Type1World(.pinned, options: options)
    try world.map(0x100, 3)
    try world.map(1 << 51, 2)
    world.kernel.plan(nil)
    #expect(try world.container.unmap(.wholeSpace) == 0x5000)
    #expect(world.fake.mappings == [])
    let half: UInt64 = 1 << 63
    let none: UInt32 = 0
    #expect(
      world.kernel.calls(.unmapDMA).map(\.argument) == [
        Bytes.structure(24 as UInt32, none, 0 as UInt64, half),
        // What the kernel does at the end is found out by a range that wraps.
        Bytes.structure(24 as UInt32, none, 0xffff_ffff_ffff_f000 as UInt64, 0x2000 as UInt64),
        Bytes.structure(24 as UInt32, none, half, half - 0x1000),
      ])
  }

  @Test func `the dirty log is started, read and stopped`() throws {
    let world = try Type1World(.pinned)
    try world.map(0x100, 70)
    world.kernel.plan(nil)
    let log = world.container.dirtyLogs[0]
    try log.start(logging: [], pageSize: .fourKiB)
    var bitmap = Self.bitmap(Type1World.range(0x100, 70))
    try log.query(&bitmap, clear: true)
    try log.stop()
    let calls = world.kernel.calls(.dirtyPages).map(\.argument)
    #expect(calls[0] == Bytes.structure(8 as UInt32, 1 as UInt32))
    #expect(calls[2] == Bytes.structure(8 as UInt32, 2 as UInt32))
    let address = Bytes(calls[1]).u64(40)
    #expect(
      calls[1]
        == Bytes.structure(
          48 as UInt32, 4 as UInt32, 0x10_0000 as UInt64, 0x4_6000 as UInt64, 4096 as UInt64,
          16 as UInt64, address))
    #expect(address % 4096 == 0, "the bitmap is page aligned")
  }

  @Test func `an unmap with dirty bitmap carries the bitmap behind it`() throws {
    let world = try Type1World(.pinned)
    try world.map(0x100, 70)
    try world.container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    #expect(world.port.touch(IOVA(0x14_5000)) != nil)
    world.kernel.plan(nil)
    var bitmap = Self.bitmap(Type1World.range(0x100, 70))
    #expect(try world.container.unmap(reportingInto: &bitmap) == 0x4_6000)
    #expect(bitmap.dirtyCount == 1)
    let isLast = bitmap.contains(IOVA(0x14_5000))
    #expect(isLast)
    let call = world.kernel.calls(.unmapDMA).map(\.argument)[0]
    #expect(
      call
        == Bytes.structure(
          48 as UInt32, 1 as UInt32, 0x10_0000 as UInt64, 0x4_6000 as UInt64, 4096 as UInt64,
          16 as UInt64, Bytes(call).u64(40)))
  }

  /// The kernel overwrites whole words.
  @Test func `bits the caller had are kept, whichever mapping their word belongs to`() throws {
    let world = try Type1World(.pinned)
    try world.map(0x100, 70)
    try world.map(0x146, 10, ram: 100)
    let log = world.container.dirtyLogs[0]
    try log.start(logging: [], pageSize: .fourKiB)
    for page in [0x100, 0x145, 0x146, 0x14f] as [UInt64] {
      #expect(world.port.touch(IOVA(page << 12)) != nil)
    }
    var bitmap = Self.bitmap(Type1World.range(0x100, 128))
    let held: [UInt64] = [0x101, 0x144, 0x147, 0x160]
    for page in held { bitmap.insert(Type1World.range(page, 1)) }
    try log.query(&bitmap, clear: true)
    for page in held + [0x100, 0x145, 0x146, 0x14f] {
      let isDirty = bitmap.contains(IOVA(page << 12))
      #expect(isDirty, "page \(page)")
    }
    #expect(bitmap.dirtyCount == 8)
  }

  @Test func `memory that is not in this process can not be mapped, and is not asked for`() throws {
    let world = try Type1World(.pinned)
    world.kernel.plan(nil)
    let error = #expect(throws: ContainerError.self) {
      try world.container.map(
        MapRequest(
          iova: Type1World.range(1, 1), gpaFirst: GPA(0x5000), hvaFirst: nil,
          permissions: .readWrite))
    }
    #expect(error?.description.contains("GPA 0x5000 is not mapped in this process") == true)
    #expect(world.kernel.calls.isEmpty)
  }

  @Test func `the last page of the space is left alone on kernels whose sums wrap`() throws {
    let last = AddressRange(first: IOVA(0xffff_ffff_ffff_e000), last: IOVA(.max))
    for isSound in [true, false] {
      var options = FakeContainer.Options()
      options.isSoundAtTheTop = isSound
      let world = try Type1World(.pinned, options: options)
      let request = MapRequest(
        iova: last, gpaFirst: world.ram.gpa.first, hvaFirst: world.fake.hvaFirst,
        permissions: .readWrite)
      guard !isSound else {
        try world.container.map(request)
        #expect(try world.container.unmap(last) == 0x2000)
        continue
      }
      let error = #expect(throws: ContainerError.self) { try world.container.map(request) }
      #expect(error?.detail.contains("never unmap it") == true)
      #expect(world.kernel.calls(.mapDMA) == [])
      let below = AddressRange(first: last.first, last: IOVA(0xffff_ffff_ffff_efff))
      try world.container.map(
        MapRequest(
          iova: below, gpaFirst: world.ram.gpa.first, hvaFirst: world.fake.hvaFirst,
          permissions: .readWrite))
      let log = world.container.dirtyLogs[0]
      try log.start(logging: [], pageSize: .fourKiB)
      #expect(world.port.touch(below.first) != nil)
      var bitmap = Self.bitmap(last)
      try log.query(&bitmap, clear: true)
      #expect(bitmap.dirtyCount == 1)
      #expect(try world.container.unmap(last) == 0x1000)
      #expect(world.fake.mappings == [])
    }
  }
}
