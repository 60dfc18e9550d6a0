public import DeviceMigration
import Glibc
import Locking

/// A channel over any file descriptor: a Unix or TCP socket, a pipe, a file.
///
/// Invariants:
/// 1. The descriptor is owned: closed once, when the channel goes or, for a pipe or a file, when it
///    is shut down; never while a call on it is under way.
/// 2. A peer that is gone is an error, never a signal.
/// 3. After `shutDown` every call fails, those that wait included.
///
/// States:
///
///     open ──shutDown──> shut ──last call out──> closed       a pipe, a file
///     open ──shutDown──> shut ──the channel goes──> closed    a socket
public final class FileDescriptorChannel: ByteChannel {
  public let name: String
  public let isBidirectional: Bool
  private let kind: SystemCalls.Kind
  let timeoutMilliseconds: Int?
  private let wake: (reading: Int32, writing: Int32)
  private let state: Mutex<State>

  private struct State {
    var descriptor: Int32
    var callCount = 0
    var isShut = false
  }

  /// Takes `descriptor` over, also when it throws.
  /// - Parameter timeoutMilliseconds: how long one call may wait without a byte moving; nil for
  ///   ever. Files do not wait.
  public init(
    owning descriptor: Int32, name: String, timeoutMilliseconds: Int? = nil
  ) throws(ChannelError) {
    self.name = name
    self.timeoutMilliseconds = timeoutMilliseconds
    switch SystemCalls.kind(of: descriptor) {
    case .success(let kind): self.kind = kind
    case .failure(let error):
      throw Self.failure(error.rawValue, name, "open")
    }
    isBidirectional = kind == .socket
    guard let wake = SystemCalls.wakePair() else {
      close(descriptor)
      throw Self.failure(EMFILE, name, "open")
    }
    self.wake = wake
    state = Mutex(State(descriptor: descriptor))
    if kind == .socket {
      let value = SystemCalls.setTimeout(descriptor, milliseconds: timeoutMilliseconds)
      if value < 0 { throw Self.failure(Int32(-value), name, "open") }
      SystemCalls.disableDelay(descriptor)
      SystemCalls.enlargeBuffers(descriptor, byteCount: 4 << 20)
    } else {
      _ = SystemCalls.pipeSignalIgnored
      // A large write into a pipe would wait inside the call, where neither timeout nor shutDown
      // reaches it.
      if kind == .pipe { SystemCalls.doNotBlock(descriptor) }
    }
  }

  deinit {
    let descriptor = state.withLock { $0.descriptor }
    if descriptor >= 0 { close(descriptor) }
    close(wake.reading)
    close(wake.writing)
  }

  /// Two channels, each the other's far end, over a socket pair.
  public static func pair(
    timeoutMilliseconds: Int? = nil
  ) throws(ChannelError) -> (FileDescriptorChannel, FileDescriptorChannel) {
    guard let (left, right) = SystemCalls.pair() else { throw failure(EMFILE, "pair", "open") }
    let first = try FileDescriptorChannel(
      owning: left, name: "pair, left", timeoutMilliseconds: timeoutMilliseconds)
    let second = try FileDescriptorChannel(
      owning: right, name: "pair, right", timeoutMilliseconds: timeoutMilliseconds)
    return (first, second)
  }

  public func write(_ bytes: RawSpan) throws(ChannelError) {
    var done = 0
    while done < bytes.byteCount {
      let rest = bytes.extracting(done..<bytes.byteCount)
      let count = try call("write") { (descriptor) throws(ChannelError) in
        try self.wait(for: descriptor, writing: true)
        let value = SystemCalls.write(
          rest, to: descriptor, isSocket: self.kind == .socket, timeout: self.timeoutMilliseconds)
        return self.kind == .pipe && value == -Int(EAGAIN) ? 0 : value
      }
      done += count
    }
  }

  public func read(into buffer: inout MutableRawSpan) throws(ChannelError) -> Int {
    guard buffer.byteCount > 0 else { return 0 }
    let descriptor = try enter("read")
    defer { leave() }
    while true {
      try wait(for: descriptor, writing: false)
      let value = SystemCalls.read(
        into: &buffer, from: descriptor, timeout: kind == .socket ? timeoutMilliseconds : nil)
      // Another reader of the pipe was faster.
      if kind == .pipe, value == -Int(EAGAIN) { continue }
      return try check(value, "read")
    }
  }

  public func shutDown() {
    let toClose = state.withLock { (state: inout State) -> Int32 in
      guard !state.isShut else { return -1 }
      state.isShut = true
      if kind == .socket {
        _ = shutdown(state.descriptor, Int32(SHUT_RDWR))
        return -1
      }
      return state.callCount == 0 ? takeDescriptor(&state) : -1
    }
    if toClose >= 0 { close(toClose) }
    // Closing the writing end wakes whoever polls the reading one; a byte does it here, so that the
    // number stays taken until nobody uses it.
    SystemCalls.wakeUp(wake.writing)
  }

  /// For what is laid over a socket and keeps this channel: it stays open as long as that is so.
  var openDescriptor: Int32? {
    state.withLock { $0.isShut || $0.descriptor < 0 || kind != .socket ? nil : $0.descriptor }
  }

  private func takeDescriptor(_ state: inout State) -> Int32 {
    let descriptor = state.descriptor
    state.descriptor = -1
    return descriptor
  }

  private func enter(_ operation: String) throws(ChannelError) -> Int32 {
    try state.withLock { (state: inout State) throws(ChannelError) -> Int32 in
      guard !state.isShut else {
        throw ChannelError(.closed, channel: name, operation: operation)
      }
      state.callCount += 1
      return state.descriptor
    }
  }

  private func leave() {
    let toClose = state.withLock { (state: inout State) -> Int32 in
      state.callCount -= 1
      let isLast = state.isShut && state.callCount == 0 && kind != .socket
      return isLast ? takeDescriptor(&state) : -1
    }
    if toClose >= 0 { close(toClose) }
  }

  private func call(
    _ operation: String, _ body: (Int32) throws(ChannelError) -> Int
  ) throws(ChannelError) -> Int {
    let descriptor = try enter(operation)
    defer { leave() }
    return try check(try body(descriptor), operation)
  }

  /// A socket waits in the call itself, with the timeout that was set on it.
  private func wait(for descriptor: Int32, writing: Bool) throws(ChannelError) {
    guard kind == .pipe else { return }
    let operation = writing ? "write" : "read"
    let value = SystemCalls.wait(
      for: descriptor, writing: writing, or: wake.reading,
      milliseconds: timeoutMilliseconds.map { Int32(clamping: $0) } ?? -1)
    if value < 0 { throw Self.failure(Int32(-value), name, operation) }
    if value == 0 {
      let isShut = state.withLock { $0.isShut }
      throw ChannelError(isShut ? .closed : .timedOut, channel: name, operation: operation)
    }
  }

  private func check(_ value: Int, _ operation: String) throws(ChannelError) -> Int {
    let isShut = state.withLock { $0.isShut }
    if isShut, value <= 0 { throw ChannelError(.closed, channel: name, operation: operation) }
    if value >= 0 { return value }
    if value == -Int(EAGAIN) {
      throw ChannelError(.timedOut, channel: name, operation: operation, errorNumber: EAGAIN)
    }
    throw Self.failure(Int32(-value), name, operation)
  }

  static func failure(_ errorNumber: Int32, _ name: String, _ operation: String) -> ChannelError {
    ChannelError(
      .failed, channel: name, operation: operation, errorNumber: errorNumber,
      detail: SystemCalls.text(errorNumber))
  }
}
