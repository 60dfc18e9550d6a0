import Addressing

/// Turns harvested runs into sections: consecutive pages with content into one, pages of zeroes
/// into a run without content.
struct PageSender {
  enum Fault: Error {
    case channel(ChannelError)
    case memoryMissing(GPARange)
    /// Made to fail on purpose; nothing of the page was written.
    case rehearsed
  }

  let memory: any GuestMemory
  let writer: StreamWriter
  /// The first page with content is refused.
  var refusesContent = false
  private(set) var contentPages: UInt64 = 0
  private(set) var zeroPages: UInt64 = 0
  private var zeroes: GPARange?

  init(memory: any GuestMemory, writer: StreamWriter, refusesContent: Bool) {
    self.memory = memory
    self.writer = writer
    self.refusesContent = refusesContent
  }

  private static let page = UInt64(StreamFormat.pageByteCount)
  private static let pieceBytes = UInt64(StreamFormat.pagesByteCountMax)

  mutating func send(_ runs: [GPARange]) throws(Fault) {
    for run in runs {
      var first = run.first
      while true {
        let pieceLast = first.advanced(byBytes: Self.pieceBytes - 1) ?? run.last
        let piece = AddressRange(first: first, last: min(pieceLast, run.last))
        try send(piece: piece)
        guard piece.last < run.last, let next = piece.last.advanced(byBytes: 1) else { break }
        first = next
      }
      // A run lies in one region; a section must, too.
      try flushZeroes()
    }
  }

  private mutating func send(piece: GPARange) throws(Fault) {
    let memory = memory
    // The copy is given back after the call: the closure can not write through `self`.
    var sender = self
    let done: Void? = try memory.withBytes(of: piece) { (bytes) throws(Fault) in
      try sender.send(bytes, at: piece.first)
    }
    self = sender
    if done == nil { throw .memoryMissing(piece) }
  }

  private mutating func send(_ bytes: RawSpan, at gpa: GPA) throws(Fault) {
    let page = StreamFormat.pageByteCount
    var offset = 0
    while offset < bytes.byteCount {
      let begin = offset
      let isZero = Checksum.isZero(bytes.extracting(offset..<(offset + page)))
      repeat {
        offset += page
      } while offset < bytes.byteCount
        && Checksum.isZero(bytes.extracting(offset..<(offset + page))) == isZero
      // Inside the piece, so the sum is inside the address space.
      let range = AddressRange(
        first: GPA(gpa.rawValue &+ UInt64(begin)), last: GPA(gpa.rawValue &+ UInt64(offset - 1)))
      if isZero {
        try append(zeroes: range)
      } else {
        try flushZeroes()
        guard !refusesContent else { throw .rehearsed }
        try write { (writer) throws(ChannelError) in
          try writer.writePages(at: range.first, bytes.extracting(begin..<offset))
        }
        contentPages &+= UInt64((offset - begin) / page)
      }
    }
  }

  private mutating func append(zeroes range: GPARange) throws(Fault) {
    if let run = zeroes, run.isFollowed(by: range),
      range.last.rawValue &- run.first.rawValue < Self.page << 31
    {
      zeroes = AddressRange(first: run.first, last: range.last)
    } else {
      try flushZeroes()
      zeroes = range
    }
  }

  private mutating func flushZeroes() throws(Fault) {
    guard let run = zeroes else { return }
    zeroes = nil
    try write { (writer) throws(ChannelError) in try writer.writeZeroPages(run) }
    zeroPages &+= (run.lastOffset &+ 1) / Self.page
  }

  private func write(_ body: (StreamWriter) throws(ChannelError) -> Void) throws(Fault) {
    do throws(ChannelError) {
      try body(writer)
    } catch {
      throw .channel(error)
    }
  }
}
