/// Every errno of type1 that a caller can provoke, asked of the kernel without any module of the
/// project: sections 1.4 to 1.6 and 10 of the notes. Where the kernel answers otherwise, the
/// modules that build on these rules are wrong.
enum Type1Errors {
  private typealias Number = RawContainer.Number

  private static let efault: Int32 = 14
  private static let eexist: Int32 = 17
  private static let einval: Int32 = 22
  private static let enotty: Int32 = 25
  private static let eoverflow: Int32 = 75

  private static func map(
    _ iova: UInt64, _ size: UInt64, _ address: UInt64, flags: UInt32 = 3, argsz: UInt32 = 32
  ) -> Structure {
    Structure().u32(argsz).u32(flags).u64(address).u64(iova).u64(size)
  }

  private static func unmap(
    _ iova: UInt64, _ size: UInt64, flags: UInt32 = 0, argsz: UInt32 = 24
  ) -> Structure {
    Structure().u32(argsz).u32(flags).u64(iova).u64(size)
  }

  private static func dirty(_ flags: UInt32, argsz: UInt32 = 8) -> Structure {
    Structure().u32(argsz).u32(flags)
  }

  private static func get(
    _ iova: UInt64, _ size: UInt64, pageSize: UInt64 = 4096, bitmapSize: UInt64, at: UInt64,
    argsz: UInt32 = 48
  ) -> Structure {
    dirty(4, argsz: argsz).u64(iova).u64(size).u64(pageSize).u64(bitmapSize).u64(at)
  }

  static func run(_ devices: [String], into result: inout LabResult) throws {
    let raw = try RawContainer(devices: devices)
    // Bitmap and mapped memory: page 0 of it is the bitmap.
    let memory = try LabMemory(byteCount: 1 << 20)
    let bits = memory.address
    let data = memory.address + 4096
    func expect(_ name: String, _ number: UInt, _ structure: Structure, _ errno: Int32) {
      // What does not fit the kernel's reading is padded: only argsz says how long it is.
      var bytes = structure.bytes + [UInt8](repeating: 0, count: 64)
      let answer = raw.file.control(number, &bytes)
      result.expect(name, Errno.name(min(answer, 0) * -1), is: Errno.name(errno))
    }
    let a: UInt64 = 0x10_0000
    let size: UInt64 = 70 * 4096

    expect("DIRTY_PAGES before START: GET", Number.dirtyPages,
      get(a, size, bitmapSize: 16, at: bits), einval)
    expect("STOP when off is nothing", Number.dirtyPages, dirty(2), 0)
    expect("MAP of 31 bytes of structure", Number.map, map(a, size, data, argsz: 31), einval)
    expect("MAP with an unknown flag", Number.map, map(a, size, data, flags: 0x80), einval)
    expect("MAP of nothing", Number.map, map(a, 0, data), einval)
    expect("MAP for nothing", Number.map, map(a, size, data, flags: 0), einval)
    expect("MAP at half a page", Number.map, map(a + 2048, size, data), einval)
    expect("MAP of half a page", Number.map, map(a, 2048, data), einval)
    expect("MAP of memory at half a page", Number.map, map(a, 4096, data + 2048), einval)
    expect("MAP that wraps", Number.map, map(UInt64.max - 4095, 8192, data), wrapErrno(raw))
    expect("MAP of no memory", Number.map, map(a, 4096, 0x7000_0000_0000), efault)
    expect("MAP past the IOMMU's reach", Number.map, map(1 << 60, 4096, data), einval)
    expect("MAP over the interrupt window", Number.map, map(0xfee0_0000, 4096, data), einval)
    expect("MAP with VADDR of what is not mapped", Number.map, map(a, 4096, data, flags: 4), 2)
    expect("MAP", Number.map, map(a, size, data), 0)
    expect("MAP again", Number.map, map(a, size, data), eexist)
    expect("MAP over its last page", Number.map, map(a + size - 4096, 8192, data), eexist)

    expect("DIRTY_PAGES with no flag", Number.dirtyPages, dirty(0), einval)
    expect("with two flags", Number.dirtyPages, dirty(3), einval)
    expect("with an unknown flag", Number.dirtyPages, dirty(8), einval)
    expect("of 7 bytes of structure", Number.dirtyPages, dirty(1, argsz: 7), einval)
    expect("UNMAP with dirty bitmap when off", Number.unmap,
      unmap(a, size, flags: 1, argsz: 48).u64(4096).u64(16).u64(bits), einval)
    expect("START", Number.dirtyPages, dirty(1), 0)
    expect("START again", Number.dirtyPages, dirty(1), 0)
    for (name, structure, errno) in [
      ("a bitmap of 9 bytes", get(a, size, bitmapSize: 9, at: bits), einval),
      ("a bitmap of 16", get(a, size, bitmapSize: 16, at: bits), 0),
      ("a bitmap of 256 MiB", get(a, size, bitmapSize: 268_435_456, at: bits), 0),
      ("8 bytes more", get(a, size, bitmapSize: 268_435_464, at: bits), einval),
      ("47 bytes of structure", get(a, size, bitmapSize: 16, at: bits, argsz: 47), einval),
      ("size 0", get(a, 0, bitmapSize: 16, at: bits), einval),
      ("pages of 8 KiB", get(a, size, pageSize: 8192, bitmapSize: 16, at: bits), einval),
      ("pages of 0", get(a, size, pageSize: 0, bitmapSize: 16, at: bits), einval),
      ("half a page", get(a + 2048, size, bitmapSize: 16, at: bits), einval),
      ("a cut mapping", get(a, size - 4096, bitmapSize: 16, at: bits), einval),
      ("no bitmap", get(a, size, bitmapSize: 16, at: 0x7000_0000_0000), efault),
      ("only a hole", get(0x80_0000, size, bitmapSize: 16, at: bits), 0),
    ] {
      expect("GET_BITMAP, \(name)", Number.dirtyPages, structure, errno)
    }
    let withDirty = { (iova: UInt64, size: UInt64, argsz: UInt32, bytes: UInt64, at: UInt64) in
      unmap(iova, size, flags: 1, argsz: argsz).u64(4096).u64(bytes).u64(at)
    }
    for (name, structure, errno) in [
      ("23 bytes of structure", unmap(a, size, argsz: 23), einval),
      ("an unknown flag", unmap(a, size, flags: 0x80), einval),
      ("half a page", unmap(a + 2048, size), einval), ("size 0", unmap(a, 0), einval),
      ("the first 64 pages of 70", unmap(a, 64 * 4096), einval),
      ("ALL with a size", unmap(0, 4096, flags: 2), einval),
      ("ALL with a dirty bitmap", unmap(0, 0, flags: 3, argsz: 48), einval),
      ("dirty bitmap, 47 bytes of structure", withDirty(a, size, 47, 16, bits), einval),
      ("dirty bitmap of 9 bytes", withDirty(a, size, 48, 9, bits), einval),
      ("dirty bitmap, a cut mapping", withDirty(a, 64 * 4096, 48, 16, bits), einval),
    ] {
      expect("UNMAP, \(name)", Number.unmap, structure, errno)
    }
    expect("UNMAP of a hole is nothing", Number.unmap, unmap(0x80_0000, 4096), 0)
    expect("UNMAP with dirty bitmap", Number.unmap, withDirty(a, size, 48, 16, bits), 0)
    result.expect("reports each page", memory.load(0), is: UInt64.max)
    result.expect("and no more", memory.load(8) & 0x3f, is: 0x3f)
    expect("UNMAP again is nothing", Number.unmap, unmap(a, size), 0)
    expect("an unknown call", 0x3b7f, dirty(0), enotty)
  }

  /// EOVERFLOW where the kernel checks its sums (Linux 7.3), EINVAL before.
  private static func wrapErrno(_ raw: RawContainer) -> Int32 {
    var bytes = unmap(UInt64.max - 4095, 8192).bytes
    return raw.file.control(Number.unmap, &bytes) == -eoverflow ? eoverflow : einval
  }
}
