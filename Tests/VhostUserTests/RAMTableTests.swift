import Addressing
import TestSupport
import Testing

@testable import VhostUser

@Suite struct RAMTableTests {
  static let memory = FileIdentity(device: 1, inode: 7)
  static let other = FileIdentity(device: 1, inode: 8)

  static func region(
    _ gpa: UInt64, _ byteCount: UInt64, at fileOffset: UInt64, user: UInt64 = 0,
    in file: FileIdentity = memory
  ) throws(VhostUserError) -> RAMTableRegion {
    try RAMTableRegion(
      RAMRegionDescription(
        gpa: gpa, byteCount: byteCount, userAddress: user &+ fileOffset, fileOffset: fileOffset),
      file: file, descriptor: nil)
  }

  private static func refusal<R>(_ body: () throws(VhostUserError) -> R) -> VhostUserError? {
    do throws(VhostUserError) {
      _ = try body()
      return nil
    } catch {
      return error
    }
  }

  private static func one(_ first: UInt64, _ last: UInt64) -> RAMPlace {
    .one(GPARange(first: GPA(first), last: GPA(last)))
  }

  @Test func `RAM below and above 4 GiB is found where it lies`() throws {
    let gib: UInt64 = 1 << 30
    let table = try RAMTable([
      Self.region(4 * gib, gib, at: 2 * gib), Self.region(0, 0xa0000, at: 0),
      Self.region(0xc0000, 2 * gib - 0xc0000, at: 0xc0000),
    ])
    #expect(table.regions.map(\.gpa.first.rawValue) == [0, 0xc0000, 4 * gib])
    #expect(table.end == 5 * gib)
    #expect(
      table.place(of: Self.memory, offset: 2 * gib + 4096, byteCount: 4096)
        == Self.one(4 * gib + 4096, 4 * gib + 8191))
    #expect(
      table.place(of: Self.memory, offset: 0x9f000, byteCount: 4096) == Self.one(0x9f000, 0x9ffff))
    // The hole below the BIOS, a piece that runs into it, one whose halves are not side by side.
    #expect(table.place(of: Self.memory, offset: 0xb0000, byteCount: 4096) == .none)
    #expect(table.place(of: Self.memory, offset: 0x9f000, byteCount: 8192) == .none)
    #expect(table.place(of: Self.memory, offset: 2 * gib - 4096, byteCount: 8192) == .none)
    #expect(table.place(of: Self.other, offset: 0, byteCount: 4096) == .none)
    #expect(table.place(of: Self.memory, offset: 0, byteCount: 0) == .none)
    #expect(table.place(of: Self.memory, offset: .max, byteCount: 4096) == .none)
    #expect(table.region(at: GPA(0xb0000)) == nil)
    #expect(table.region(at: GPA(0xc0000))?.fileOffset == 0xc0000)
  }

  @Test func `a piece may run through regions that go on in GPA and file`() throws {
    let table = try RAMTable([
      Self.region(0, 0x4000, at: 0x1000), Self.region(0x4000, 0x4000, at: 0x5000),
      Self.region(0x8000, 0x4000, at: 0xa000),
    ])
    #expect(
      table.place(of: Self.memory, offset: 0x3000, byteCount: 0x4000, countedFrom: .file)
        == Self.one(0x2000, 0x5fff))
    #expect(
      table.place(of: Self.memory, offset: 0x8000, byteCount: 0x2000, countedFrom: .file) == .none)
  }

  @Test func `memory that is seen twice has several places`() throws {
    let table = try RAMTable([
      Self.region(0, 0x10000, at: 0), Self.region(0x80000, 0x4000, at: 0x8000, user: 0x100000),
    ])
    #expect(
      table.place(of: Self.memory, offset: 0x9000, byteCount: 4096, countedFrom: .file)
        == .several([
          GPARange(first: GPA(0x9000), last: GPA(0x9fff)),
          GPARange(first: GPA(0x81000), last: GPA(0x81fff)),
        ]))
  }

  /// `memory-backend-file,offset=`: QEMU's vfio-user counts from the block, vhost-user from the
  /// file.
  @Test func `an offset that may be counted from block or file is only taken where both agree`()
    throws
  {
    let table = try RAMTable([
      Self.region(0, 0x4000, at: 0x10000), Self.region(0x100000, 0x4000, at: 0x14000),
    ])
    func place(_ offset: UInt64, _ origin: FileOffsetOrigin) -> RAMPlace {
      table.place(of: Self.memory, offset: offset, byteCount: 4096, countedFrom: origin)
    }
    #expect(place(0x5000, .block) == Self.one(0x101000, 0x101fff))
    #expect(place(0x15000, .file) == Self.one(0x101000, 0x101fff))
    #expect(place(0x5000, .file) == .none)
    #expect(place(0x15000, .block) == .none)
    #expect(place(0x5000, .unknown) == Self.one(0x101000, 0x101fff))
    #expect(place(0x15000, .unknown) == Self.one(0x101000, 0x101fff))
    // Two blocks in one file: block-counted, page 1 is in both.
    let two = try RAMTable([
      Self.region(0, 0x4000, at: 0, user: 0x7000_0000),
      Self.region(0x100000, 0x4000, at: 0x4000, user: 0x5000_0000),
    ])
    #expect(
      two.place(of: Self.memory, offset: 0x1000, byteCount: 4096)
        == .several([
          GPARange(first: GPA(0x1000), last: GPA(0x1fff)),
          GPARange(first: GPA(0x101000), last: GPA(0x101fff)),
        ]))
    #expect(
      two.place(of: Self.memory, offset: 0x5000, byteCount: 4096) == Self.one(0x101000, 0x101fff))
  }

  @Test func `what cannot be RAM is refused by name and changes nothing`() throws {
    var table = try RAMTable([Self.region(0x10000, 0x10000, at: 0)])
    #expect(
      Self.refusal { () throws(VhostUserError) in try Self.region(5, 0, at: 0) }
        == .emptyRegion(gpa: GPA(5)))
    #expect(
      Self.refusal { () throws(VhostUserError) in try Self.region(.max - 5, 7, at: 0) }
        == .regionPastAddressSpace(gpa: GPA(.max - 5), byteCount: 7))
    #expect(
      Self.refusal { () throws(VhostUserError) in try Self.region(0, 7, at: .max - 5) }
        == .filePastEnd(gpa: GPA(0), fileOffset: .max - 5))
    for (gpa, byteCount) in [(0x1ffff, 1), (0x0, 0x10001), (0x0, 0x100000), (0x12000, 0x1000)]
      as [(UInt64, UInt64)]
    {
      let region = try Self.region(gpa, byteCount, at: 0)
      #expect(
        Self.refusal { () throws(VhostUserError) in try table.insert(region) }
          == .regionOverlap(region.gpa, with: table.regions[0].gpa))
    }
    func description(_ gpa: UInt64, _ byteCount: UInt64, _ user: UInt64) -> RAMRegionDescription {
      RAMRegionDescription(gpa: gpa, byteCount: byteCount, userAddress: user, fileOffset: 99)
    }
    for wrong in [
      description(0x10001, 0x10000, 0), description(0x10000, 0x1000, 0),
      description(0x10000, 0x10000, 1), description(0, 0x10000, 0),
      description(0x30000, 0x10000, 0),
    ] {
      #expect(
        Self.refusal { () throws(VhostUserError) in try table.remove(wrong) }
          == .unknownRegion(gpa: GPA(wrong.gpa), byteCount: wrong.byteCount))
    }
    #expect(table.regions.count == 1)
    try table.remove(description(0x10000, 0x10000, 0))
    #expect(table.regions.isEmpty && table.end == 0)
    for index in 0..<UInt64(CompanionLimits.memorySlotCountMax) {
      try table.insert(Self.region(index << 12, 4096, at: 0))
    }
    let surplus = try Self.region(1 << 40, 4096, at: 0)
    #expect(
      Self.refusal { () throws(VhostUserError) in try table.insert(surplus) }
        == .tooManyRegions(count: 513, max: 512))
  }

  @Test func `RAM at the very end of the address space is kept`() throws {
    let table = try RAMTable([Self.region(.max - 4095, 4096, at: .max - 4095)])
    #expect(table.end == nil)
    #expect(
      table.place(of: Self.memory, offset: .max - 4095, byteCount: 4096, countedFrom: .file)
        == Self.one(.max - 4095, .max))
    #expect(
      table.place(of: Self.memory, offset: .max - 4095, byteCount: 4097, countedFrom: .file)
        == .none)
  }
}
