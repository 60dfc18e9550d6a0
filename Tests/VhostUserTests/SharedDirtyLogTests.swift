import Addressing
import TestSupport
import Testing

@testable import VhostUser

@Suite struct SharedDirtyLogTests {
  static func pages(_ first: UInt64, _ last: UInt64) -> GPARange {
    GPARange(first: GPA(first << 12), last: GPA(last << 12 | 0xfff))
  }

  static func refusal(_ body: () throws(VhostUserError) -> Void) -> VhostUserError? {
    do throws(VhostUserError) {
      try body()
      return nil
    } catch {
      return error
    }
  }

  private static func open(
    _ file: LogFile, byteCount: UInt64? = nil, offset: UInt64 = 0, acceptsUnsealed: Bool = false
  ) throws(VhostUserError) -> SharedDirtyLog {
    let log = SharedDirtyLog(acceptsUnsealed: acceptsUnsealed)
    let description = LogDescription(byteCount: byteCount ?? file.byteCount, offset: offset)
    try log.replace(with: description, of: file.descriptor)
    return log
  }

  @Test func `bit n is page n, from the offset on`() throws {
    let file = LogFile(byteCount: 3 * 4096)
    // An offset off every page border.
    let log = try Self.open(file, byteCount: 4096, offset: 4104)
    #expect(log.pageCount == 32768 && log.epoch == 1)
    try log.mark(GPARange(first: GPA(0x1234567), last: GPA(0x1234567)))
    try log.mark(Self.pages(62, 130))
    try log.mark(Self.pages(32767, 32767))
    #expect(file.takePages(offset: 4104) == Array(62...130) + [0x1234, 32767])
  }

  @Test func `random marks agree with a set of pages`() throws {
    let seed = TestSeed.seed(default: 0x6c6f)
    var random = SeededGenerator(seed: seed)
    let file = LogFile(byteCount: 4096)
    let log = try Self.open(file)
    for _ in 0..<300 {
      var model: Set<UInt64> = []
      for _ in 0..<3 {
        let first = random.below(UInt64(32768))
        if random.once(in: 2) {
          let last = min(32767, first + random.below(UInt64(300)))
          try log.mark(Self.pages(first, last))
          model.formUnion(first...last)
        } else {
          let count = random.below(6)
          let words = (0..<count).map { _ in random.once(in: 3) ? 0 : random.next() & random.next()
          }
          let lost = Self.refusal { () throws(VhostUserError) in
            try log.mark(words.span, from: GPA(first << 12))
          }
          var outside: [UInt64] = []
          for index in 0..<(count * 64) where words[index / 64] >> UInt64(index % 64) & 1 == 1 {
            let page = first + UInt64(index)
            if page < 32768 { model.insert(page) } else { outside.append(page) }
          }
          let named = outside.first.map {
            VhostUserError.pastLog(
              Self.pages($0, outside[outside.count - 1]), logPageCount: 32768)
          }
          #expect(lost == named, "\(TestSeed.reproduce(seed, filter: "SharedDirtyLogTests"))")
        }
      }
      #expect(
        file.takePages() == model.sorted(),
        "\(TestSeed.reproduce(seed, filter: "SharedDirtyLogTests"))")
    }
  }

  @Test func `a log of any number of bytes is marked to its last bit and not beyond`() throws {
    for byteCount in 1...17 as ClosedRange<UInt64> {
      let file = LogFile(byteCount: 32)
      let log = try Self.open(file, byteCount: byteCount, offset: 8)
      #expect(
        Self.refusal { () throws(VhostUserError) in try log.mark(Self.pages(0, 200)) }
          == .pastLog(Self.pages(byteCount * 8, 200), logPageCount: byteCount * 8))
      let whole = [UInt8](repeating: 0, count: 8) + [UInt8](repeating: 255, count: Int(byteCount))
      #expect(file.takeBytes() == whole + [UInt8](repeating: 0, count: 32 - whole.count))
      let words: [UInt64] = [.max, .max, .max]
      #expect(
        Self.refusal { () throws(VhostUserError) in try log.mark(words.span, from: GPA(0)) }
          == .pastLog(Self.pages(byteCount * 8, 191), logPageCount: byteCount * 8))
      #expect(file.takeBytes() == whole + [UInt8](repeating: 0, count: 32 - whole.count))
    }
  }

  @Test func `a long mark is made in steps and names what is lost`() throws {
    let file = LogFile(byteCount: 65536)
    let log = try Self.open(file)
    let end: UInt64 = 65536 * 8
    #expect(
      Self.refusal { () throws(VhostUserError) in try log.mark(.wholeSpace) }
        == .pastLog(Self.pages(end, UInt64.max >> 12), logPageCount: end))
    #expect(file.takePages().count == Int(end))
    let words = [UInt64](repeating: 1, count: 9000)
    #expect(
      Self.refusal { () throws(VhostUserError) in try log.mark(words.span, from: GPA(63 << 12)) }
        == .pastLog(Self.pages(63 + 8192 * 64, 63 + 8999 * 64), logPageCount: end)
    )
    #expect(file.takePages() == (0..<8192).map { 63 + $0 * 64 }.filter { $0 < end })
  }

  @Test func `without a log a mark is lost by name`() throws {
    let log = SharedDirtyLog()
    #expect(log.pageCount == 0 && log.epoch == 0)
    #expect(
      Self.refusal { () throws(VhostUserError) in try log.mark(Self.pages(3, 4)) }
        == .noLog(Self.pages(3, 4)))
    let words: [UInt64] = [0, 4]
    #expect(
      Self.refusal { () throws(VhostUserError) in try log.mark(words.span, from: GPA(0x1000)) }
        == .noLog(Self.pages(67, 67)))
    let zeroes: [UInt64] = [0, 0]
    try log.mark(zeroes.span, from: GPA(0))
    let file = LogFile(byteCount: 4096)
    try log.replace(with: LogDescription(byteCount: 4096, offset: 0), of: file.descriptor)
    try log.mark(Self.pages(3, 4))
    log.close()
    #expect(
      Self.refusal { () throws(VhostUserError) in try log.mark(Self.pages(5, 5)) }
        == .noLog(Self.pages(5, 5)))
    #expect(file.takePages() == [3, 4])
  }

  @Test func `a log that cannot be used is refused by name and none is left`() throws {
    let file = LogFile(byteCount: 8192)
    func refusal(
      _ byteCount: UInt64, _ offset: UInt64, _ file: LogFile
    ) throws -> VhostUserError? {
      let log = try Self.open(file)
      let refusal = Self.refusal { () throws(VhostUserError) in
        try log.replace(
          with: LogDescription(byteCount: byteCount, offset: offset), of: file.descriptor)
      }
      #expect((log.pageCount == 0) == (refusal != nil))
      return refusal
    }
    #expect(try refusal(0, 0, file) == .badLogSize(byteCount: 0))
    #expect(try refusal(.max, 0, file) == .badLogSize(byteCount: .max))
    #expect(try refusal(8, 4, file) == .badLogOffset(4))
    #expect(
      try refusal(8192, 8, file)
        == .logPastFile(byteCount: 8192, offset: 8, fileByteCount: 8192))
    #expect(
      try refusal(8, .max - 7, file)
        == .logPastFile(byteCount: 8, offset: .max - 7, fileByteCount: 8192))
    #expect(try refusal(8192, 0, file) == nil)
    // One that can be sealed is; one that cannot is refused.
    let sealable = LogFile(byteCount: 4096, sealing: .sealable)
    #expect(try refusal(4096, 0, sealable) == nil)
    #expect(ftruncateFails(sealable.descriptor))
    let never = LogFile(byteCount: 4096, sealing: .never)
    #expect(
      Self.refusal { () throws(VhostUserError) in _ = try Self.open(never) } == .logNotSealed)
    _ = try Self.open(never, acceptsUnsealed: true)
    let (reading, writing) = Descriptors.pipe()
    defer { Descriptors.close(reading, writing) }
    let none = SharedDirtyLog(acceptsUnsealed: true)
    #expect(
      Self.refusal { () throws(VhostUserError) in
        try none.replace(with: LogDescription(byteCount: 8, offset: 0), of: reading)
      } == .logPastFile(byteCount: 8, offset: 0, fileByteCount: 0))
  }

  private func ftruncateFails(_ descriptor: Int32) -> Bool { !Descriptors.shrink(descriptor) }
}
