import Addressing
import Testing

@Suite struct MappingTests {
  let mapping = Mapping(
    iova: IOVARange(first: IOVA(0x10000), last: IOVA(0x13fff)), gpaFirst: GPA(0x8000_0000),
    permissions: .readWrite, generation: Generation(7))

  @Test func `translation is by offset and stops at the ends`() {
    #expect(mapping.translate(IOVA(0x10000)) == GPA(0x8000_0000))
    #expect(mapping.translate(IOVA(0x13fff)) == GPA(0x8000_3fff))
    #expect(mapping.translate(IOVA(0xffff)) == nil)
    #expect(mapping.translate(IOVA(0x14000)) == nil)
  }

  @Test func `clipping keeps the translation of every address and the generation`() throws {
    let window = IOVARange(first: IOVA(0x11000), last: IOVA(0x20000))
    let part = try #require(mapping.clipped(to: window))
    #expect(part.iova == IOVARange(first: IOVA(0x11000), last: IOVA(0x13fff)))
    #expect(part.translate(IOVA(0x12345)) == mapping.translate(IOVA(0x12345)))
    #expect(part.generation == mapping.generation)
    #expect(mapping.clipped(to: IOVARange(first: IOVA(0), last: IOVA(0xffff))) == nil)
  }

  @Test func `a GPA range past the top is the caller's bug`() async {
    await #expect(processExitsWith: .failure) {
      _ = Mapping(
        iova: IOVARange(first: IOVA(0), last: IOVA(8191)), gpaFirst: GPA(UInt64.max - 4095),
        permissions: .read)
    }
  }

  @Test func `page sizes are powers of two from 4 KiB`() {
    #expect(PageSize(bytes: 4096) == .fourKiB)
    #expect(PageSize(bytes: 2048) == nil)
    #expect(PageSize(bytes: 12288) == nil)
    #expect(PageSize(bytes: 0) == nil)
    #expect(PageSizeSet(mask: 0x4020_1800).smallest == .fourKiB)
    #expect(PageSizeSet(mask: 0x800).smallest == nil)
    #expect("\(PageSize.twoMiB)" == "2 MiB")
  }

  @Test func `bits that are no permission are not taken for one`() {
    #expect(Permissions(rawValue: 0xfc).isEmpty)
    #expect(Permissions(rawValue: 0xff) == .readWrite)
  }
}
