import Addressing
public import DeviceMigration

/// The comparison of a machine that has left with the one that has arrived, over a channel of its
/// own: the source sends every byte of its RAM once more, the destination holds its own against it.
///
/// Shape, words of 64 bits: magic, the token of the migration and page count; RAM in GPA order;
/// device count, and for each a digest of state and of configuration. Answer: pages compared, pages
/// different, how many are listed and their GPAs, devices different and their indexes.
public enum SampleVerification {
  static let magic: UInt64 = 0x796c_7665_646d_7367
  static let blockByteCount: UInt64 = 1 << 20

  /// The source's side.
  public static func ask(
    _ machine: SampleMachine, over channel: any ByteChannel, token: UInt64
  ) throws(SampleError) -> SampleVerdict {
    do throws(ChannelError) {
      try send([magic, token, machine.ram.layout.pageCount], channel)
      for block in blocks(machine) {
        try machine.ram.withBytes(of: block) { (bytes) throws(ChannelError) in
          try channel.write(bytes)
        }
      }
      try send([UInt64(machine.devices.count)] + digests(machine), channel)
      return try verdict(machine, channel)
    } catch {
      throw SampleError("the memories could not be compared: \(error)")
    }
  }

  /// The destination's side, first: whether this is the source that the guest came from, and not
  /// somebody who found the port.
  public static func isAsked(
    of machine: SampleMachine, over channel: any ByteChannel, token: UInt64
  ) -> Bool {
    do throws(ChannelError) {
      return try words(3, channel) == [magic, token, machine.ram.layout.pageCount]
    } catch {
      return false
    }
  }

  /// The destination's side, after ``isAsked(of:over:token:)``. The guest has not run yet.
  public static func answer(
    _ machine: SampleMachine, over channel: any ByteChannel
  ) throws(SampleError) -> SampleVerdict {
    do throws(ChannelError) {
      var verdict = try compare(machine, channel)
      let count = try words(1, channel)[0]
      let theirs = try words(2 * machine.devices.count, channel)
      let ours = digests(machine)
      var differing: [UInt64] = []
      for (index, device) in machine.devices.enumerated()
      where count != UInt64(machine.devices.count)
        || ours[(2 * index)..<(2 * index + 2)] != theirs[(2 * index)..<(2 * index + 2)]
      {
        differing.append(UInt64(index))
        verdict.devicesDifferent.append(device.name)
      }
      try send(
        [verdict.pagesCompared, verdict.pagesDifferent, UInt64(verdict.different.count)]
          + verdict.different.map(\.rawValue) + [UInt64(differing.count)] + differing, channel)
      return verdict
    } catch {
      throw SampleError("the memories could not be compared: \(error)")
    }
  }

  private static func compare(
    _ machine: SampleMachine, _ channel: any ByteChannel
  ) throws(ChannelError) -> SampleVerdict {
    var verdict = SampleVerdict()
    for block in blocks(machine) {
      let theirs = try bytes(Int(block.lastOffset) + 1, channel)
      var pages: [Int] = []
      machine.ram.withBytes(of: block) { ours in
        SampleBytes.reading(theirs) { theirs in
          SampleBytes.forEachDifference(ours, theirs, pageByteCount: 4096) { pages.append($0) }
        }
      }
      verdict.pagesCompared &+= block.pageCount(.fourKiB)
      verdict.pagesDifferent &+= UInt64(pages.count)
      for page in pages where verdict.different.count < SampleVerdict.listedCountMax {
        verdict.different.append(GPA(block.first.rawValue &+ UInt64(page) &* 4096))
      }
    }
    return verdict
  }

  private static func verdict(
    _ machine: SampleMachine, _ channel: any ByteChannel
  ) throws(ChannelError) -> SampleVerdict {
    let head = try words(3, channel)
    var verdict = SampleVerdict()
    verdict.pagesCompared = head[0]
    verdict.pagesDifferent = head[1]
    guard head[2] <= UInt64(SampleVerdict.listedCountMax) else { throw nonsense(channel) }
    verdict.different = try words(Int(head[2]), channel).map { GPA($0) }
    let count = try words(1, channel)[0]
    guard count <= UInt64(machine.devices.count) else { throw nonsense(channel) }
    for index in try words(Int(count), channel) {
      guard index < UInt64(machine.devices.count) else { throw nonsense(channel) }
      verdict.devicesDifferent.append(machine.devices[Int(index)].name)
    }
    guard verdict.pagesCompared == machine.ram.layout.pageCount else { throw nonsense(channel) }
    return verdict
  }

  private static func nonsense(_ channel: any ByteChannel) -> ChannelError {
    ChannelError(
      .failed, channel: channel.name, operation: "read", detail: "the answer makes no sense")
  }

  /// RAM cut into blocks, none over a region's end.
  private static func blocks(_ machine: SampleMachine) -> [GPARange] {
    var blocks: [GPARange] = []
    for region in machine.ram.layout.regions {
      var first = region.gpa.first
      while true {
        // The end of a block is below the end of a region, or that.
        let last = min(GPA(first.rawValue &+ blockByteCount &- 1), region.gpa.last)
        blocks.append(AddressRange(first: first, last: last))
        guard last < region.gpa.last else { break }
        first = GPA(last.rawValue &+ 1)
      }
    }
    return blocks
  }

  private static func digests(_ machine: SampleMachine) -> [UInt64] {
    machine.devices.flatMap { [$0.stateDigest, $0.configurationDigest] }
  }

  private static func send(
    _ words: [UInt64], _ channel: any ByteChannel
  ) throws(ChannelError) {
    var bytes: [UInt8] = []
    for word in words { LittleEndian.append(word, to: &bytes) }
    try SampleBytes.reading(bytes) { (span) throws(ChannelError) in try channel.write(span) }
  }

  private static func words(
    _ count: Int, _ channel: any ByteChannel
  ) throws(ChannelError) -> [UInt64] {
    let bytes = try bytes(count * 8, channel)
    return (0..<count).map { LittleEndian.word(bytes, at: $0 * 8) }
  }

  private static func bytes(
    _ count: Int, _ channel: any ByteChannel
  ) throws(ChannelError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    try SampleBytes.writing(&bytes) { (span) throws(ChannelError) in
      var done = 0
      while done < count {
        var rest = span._mutatingExtracting(done..<count)
        let got = try channel.read(into: &rest)
        guard got > 0 else {
          throw ChannelError(.ended, channel: channel.name, operation: "read")
        }
        done += got
      }
    }
    return bytes
  }
}
