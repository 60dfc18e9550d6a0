import Addressing
import CSmudgeLinux
import Glibc
import Locking
import VFIOUser

/// Guest RAM of 256 pages as a memfd, for a client's handler by GPA and for a device by descriptor.
///
/// Unsafe because bytes are given to the kernel by address. Sound because each buffer is given with
/// its own size and lives through the call.
final class TestRAM: DMAMemory {
  static let gpaFirst = GPA(0x4000_0000)
  static let pageCount: UInt64 = 256
  let descriptor: OwnedDescriptor
  private let last = Mutex<GPA?>(nil)
  private let refuses = Mutex(false)

  init() {
    let result = unsafe smudge_memory_create("vfio-user-test", Self.pageCount << 12)
    precondition(result >= 0, "a memfd")
    descriptor = OwnedDescriptor(owning: result)
  }

  var gpa: GPARange {
    AddressRange(
      first: Self.gpaFirst, last: GPA(Self.gpaFirst.rawValue + (Self.pageCount << 12) - 1))
  }

  /// Where a handler wrote last.
  var lastWritten: GPA? { last.withLock { $0 } }
  func refuse(_ now: Bool) { refuses.withLock { $0 = now } }

  /// All of it as a file a server may have.
  var file: VFIOUserMemoryFile { VFIOUserMemoryFile(gpa: gpa, descriptor: descriptor) }

  func read(into bytes: inout MutableRawSpan, at gpa: GPA) -> Bool {
    guard let offset = gpa.offset(from: Self.gpaFirst) else { return false }
    let count = bytes.byteCount
    return unsafe bytes.withUnsafeMutableBytes {
      unsafe pread(descriptor.rawValue, $0.baseAddress, count, Int(offset)) == count
    }
  }

  func write(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard !refuses.withLock({ $0 }), let offset = gpa.offset(from: Self.gpaFirst),
      offset + UInt64(bytes.byteCount) <= Self.pageCount << 12
    else { return false }
    last.withLock { $0 = gpa }
    return unsafe bytes.withUnsafeBytes {
      unsafe pwrite(descriptor.rawValue, $0.baseAddress, $0.count, Int(offset)) == $0.count
    }
  }

  func bytes(at gpa: GPA, _ count: Int) -> [UInt8] {
    TestFile.read(descriptor, Int(gpa.rawValue - Self.gpaFirst.rawValue), count)
  }
}

/// Reads and writes of a file by descriptor, as a device makes them.
enum TestFile {
  static func read(_ descriptor: OwnedDescriptor, _ offset: Int, _ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let result = unsafe pread(descriptor.rawValue, &bytes, count, offset)
    return Array(bytes.prefix(max(0, result)))
  }

  static func write(_ bytes: [UInt8], to descriptor: OwnedDescriptor, _ offset: Int) -> Bool {
    unsafe pwrite(descriptor.rawValue, bytes, bytes.count, offset) == bytes.count
  }
}

/// A pipe whose writing end is passed about: its reading end tells when nobody has it any more.
/// Counting descriptors would count those of tests that run beside this one.
final class DescriptorProbe: Sendable {
  private let reading: OwnedDescriptor
  private let writing: Mutex<OwnedDescriptor?>

  init() {
    var pair: [Int32] = [-1, -1]
    precondition(unsafe pipe(&pair) == 0, "a pipe")
    reading = OwnedDescriptor(owning: pair[0])
    writing = Mutex(OwnedDescriptor(owning: pair[1]))
  }

  /// Gives the writing end away, once.
  func take() -> OwnedDescriptor {
    guard
      let taken = writing.withLock({ held in
        let taken = held
        held = nil
        return taken
      })
    else { preconditionFailure("it was taken before") }
    return taken
  }

  /// Whether every copy of the writing end is closed, in the kernel's queues too.
  func isReleased(milliseconds: Int32 = 5000) -> Bool {
    var entry = pollfd(fd: reading.rawValue, events: Int16(POLLIN), revents: 0)
    let ready = unsafe poll(&entry, 1, milliseconds)
    return ready == 1 && Int32(entry.revents) & Int32(POLLHUP) != 0
  }
}

/// A peer that speaks in bytes: it can say what no client or server of this project would.
final class RawPeer: Sendable {
  let socket: OwnedDescriptor

  init(_ socket: OwnedDescriptor) { self.socket = socket }

  struct Message {
    var header: MessageHeader
    var payload: [UInt8]
    var descriptors: [OwnedDescriptor]

    var errno: Int32? {
      if case .errorReply(let errno) = header.kind { errno } else { nil }
    }
  }

  /// Sends all bytes; the descriptors go with the first. False when the other side is gone.
  @discardableResult
  func send(_ bytes: [UInt8], _ descriptors: [OwnedDescriptor] = []) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let numbers = sent == 0 ? descriptors.map(\.rawValue) : []
      let result = unsafe bytes.withUnsafeBytes { buffer in
        unsafe smudge_socket_send(
          socket.rawValue, buffer.baseAddress?.advanced(by: sent), buffer.count - sent, nil, 0,
          numbers, numbers.count)
      }
      if result == -11 {
        _ = wait(writing: true)
        continue
      }
      if result <= 0 { return false }
      sent += Int(result)
    }
    return true
  }

  /// Sends each byte by itself.
  func sendSlowly(_ bytes: [UInt8], _ descriptors: [OwnedDescriptor] = []) {
    for (index, byte) in bytes.enumerated() { send([byte], index == 0 ? descriptors : []) }
  }

  @discardableResult
  func send(
    _ request: VFIOUserRequest, id: UInt16 = 1, awaitsReply: Bool = true,
    _ descriptors: [OwnedDescriptor] = []
  ) -> Bool {
    send(
      Self.bytes(request.command.rawValue, request.encoded(), id: id, awaitsReply: awaitsReply),
      descriptors)
  }

  static func bytes(
    _ command: UInt16, _ payload: [UInt8], id: UInt16 = 1, awaitsReply: Bool = true
  ) -> [UInt8] {
    MessageHeader(
      id: id, command: command, payloadByteCount: payload.count,
      kind: .command(awaitsReply: awaitsReply)
    ).encoded() + payload
  }

  static func answer(
    _ message: Message, _ payload: [UInt8] = [], errno: Int32? = nil
  ) -> [UInt8] {
    MessageHeader(
      id: message.header.id, command: message.header.command, payloadByteCount: payload.count,
      kind: errno.map { .errorReply(errno: $0) } ?? .reply
    ).encoded() + payload
  }

  private func wait(writing: Bool = false) -> Bool {
    var entry = pollfd(
      fd: socket.rawValue, events: Int16(writing ? POLLOUT : POLLIN), revents: 0)
    return unsafe poll(&entry, 1, 10_000) == 1
  }

  private func receive(_ count: Int, _ descriptors: inout [OwnedDescriptor]) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var filled = 0
    while filled < count {
      guard wait() else { return nil }
      var numbers = [Int32](repeating: -1, count: 253)
      var came = 0
      var surplus = 0
      let start = filled
      let result = unsafe bytes.withUnsafeMutableBytes { buffer in
        unsafe buffer.baseAddress.map {
          unsafe smudge_socket_receive(
            socket.rawValue, $0.advanced(by: start), count - start, &numbers, 253, &came, &surplus)
        } ?? 0
      }
      guard result > 0 else { return nil }
      descriptors += numbers.prefix(came).map { OwnedDescriptor(owning: $0) }
      filled += Int(result)
    }
    return bytes
  }

  /// The next message; nil when the other side is gone or says nothing for 10 seconds.
  func receive() -> Message? {
    var descriptors: [OwnedDescriptor] = []
    guard let head = receive(16, &descriptors),
      let header = try? MessageHeader(
        decoding: head, limits: MessageLimits(dataByteCountMax: 64 << 20))
    else { return nil }
    guard let payload = receive(header.payloadByteCount, &descriptors) else { return nil }
    return Message(header: header, payload: payload, descriptors: descriptors)
  }

  /// True when nothing comes but the end.
  var isAtEnd: Bool {
    var none: [OwnedDescriptor] = []
    return wait() && receive(1, &none) == nil
  }

  func shutDown() { smudge_socket_shut_down(socket.rawValue) }
}
