import Addressing
@testable import DeviceMigration
import GuestDirtyLog
import TestSupport

/// Time that passes only where somebody says so. One thread has it.
final class VirtualTime: @unchecked Sendable {
  private(set) var nanoseconds: UInt64 = 1
  func pass(_ more: Double) { nanoseconds += UInt64(max(more, 0)) }
  func pass(until moment: UInt64) { nanoseconds = max(nanoseconds, moment) }
}

/// Who shares the processors with a link, as they are now.
protocol VirtualCrowd: AnyObject {
  var load: VirtualLoad { get }
}

/// A link with a destination at its far end, in virtual time: it takes what the source writes,
/// keeps nothing of it, and answers as a destination does, when a destination would.
///
/// A write costs the source a call and a copy; its bytes go into a buffer, which empties at the
/// link's speed; a full buffer holds the writer. An answer leaves when everything before its
/// question has arrived, and takes the way back.
///
/// Unsafe because spans are read as headers and filled with answers. Sound because each is bounded
/// by its own count, and one thread does everything.
final class VirtualLink: ByteChannel, @unchecked Sendable {
  let name = "virtual"
  let isBidirectional = true
  private let time: VirtualTime
  private let crowd: any VirtualCrowd
  private var load: VirtualLoad { crowd.load }
  private var random: SeededGenerator
  /// When all that was written will have arrived.
  private var arrival: UInt64 = 0
  private var answerCount: UInt64 = 0
  private var answers: [UInt8] = []
  private var answersAt: UInt64 = 0
  /// A planted fault: a ping is answered though what was written before it has not arrived.
  private let pongsOvertake: Bool

  init(
    _ time: VirtualTime, _ crowd: any VirtualCrowd, seed: UInt64, pongsOvertake: Bool = false
  ) {
    self.pongsOvertake = pongsOvertake
    self.time = time
    self.crowd = crowd
    random = SeededGenerator(seed: seed)
  }

  func write(_ bytes: RawSpan) throws(ChannelError) {
    let size = Double(bytes.byteCount)
    let crowding = load.crowding(&random)
    time.pass((load.callNanoseconds + size * load.copyNanosecondsPerByte) * crowding)
    let speed = load.linkNanosecondsPerByte * load.linkFactor(crowding, &random)
    arrival = max(arrival, time.nanoseconds) + UInt64(size * speed)
    let held = UInt64(load.bufferBytes * load.linkNanosecondsPerByte)
    time.pass(until: arrival - min(arrival, held))
    guard bytes.byteCount >= StreamFormat.headerByteCount else { return }
    let kind = unsafe bytes.unsafeLoad(as: UInt16.self)
    let count = unsafe bytes.unsafeLoad(fromByteOffset: 24, as: UInt32.self)
    switch StreamSectionKind(rawValue: kind) {
    case .hello:
      answers += start()
      answer(.accepted, after: load.startUpNanoseconds, argument: StreamFormat.acceptsPings)
    case .ping: answer(.pong, after: 0, argument: UInt64(load.walkThereNanoseconds), count: count)
    case .complete: answer(.loaded, after: load.loadNanoseconds)
    case .start: answer(.running, after: load.runNanoseconds)
    default: break
    }
  }

  private func start() -> [UInt8] {
    var bytes = PayloadEncoder(capacity: StreamFormat.startByteCount)
    for byte in StreamFormat.magic { bytes.append(byte) }
    bytes.append(StreamFormat.version)
    bytes.append(StreamBytes.checksum(bytes.bytes))
    return bytes.bytes
  }

  private func answer(
    _ kind: StreamSectionKind, after work: Double, argument: UInt64 = 0, count: UInt32 = 0
  ) {
    answers +=
      StreamSection(kind, sequence: answerCount, argument: argument, count: count).encoded()
    answerCount += 1
    let crowding = load.crowding(&random)
    let overtakes = pongsOvertake && kind == .pong
    let isThere = overtakes ? time.nanoseconds : max(arrival, time.nanoseconds)
    answersAt = isThere + UInt64((load.wayNanoseconds + work) * crowding)
  }

  func read(into buffer: inout MutableRawSpan) throws(ChannelError) -> Int {
    time.pass(until: answersAt)
    let count = min(buffer.byteCount, answers.count)
    unsafe buffer.withUnsafeMutableBytes { unsafe $0.copyBytes(from: answers[0..<count]) }
    answers.removeFirst(count)
    return count
  }

  func shutDown() {}
}

/// RAM of one content: what is sent is not looked at, so all of it is the same MiB.
///
/// Unsafe because a range is seen through memory that is not its own. Sound because what is asked
/// for at once is never more than there is.
@safe final class RepeatedMemory: GuestMemory, @unchecked Sendable {
  private let bytes = [UInt8](repeating: 0x5a, count: StreamFormat.pagesByteCountMax)
  private let region: GPARange

  init(_ region: GPARange) { self.region = region }

  func withBytes<R, E: Error>(
    of range: GPARange, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard region.contains(range), range.lastOffset < UInt64(bytes.count) else { return nil }
    let bytes = bytes
    let span = unsafe bytes.span.bytes
    return try body(span.extracting(0..<Int(range.lastOffset + 1)))
  }

  func withMutableBytes<R, E: Error>(
    of range: GPARange, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R? { nil }
}
