import Locking
import VFIOKernel

/// The kernel's calls, one of which fails without being made.
///
/// May refuse every map, as a device does that has no memory to map.
final class FaultyCalls: VFIOCalls {
  private struct State {
    var count = 0
    var failAt: Int?
    var failed: String?
  }

  private let linux = LinuxVFIOCalls()
  private let refusesMaps: Bool
  private let state = Mutex(State())

  init(refusesMaps: Bool = false) { self.refusesMaps = refusesMaps }

  /// From here on the call of this number, counted from 1, fails with EIO; nil: none.
  func plan(failAt: Int?) { state.withLock { $0 = State(failAt: failAt) } }

  /// The call that failed; nil while none did.
  var failed: String? { state.withLock { $0.failed } }

  private func fails(_ name: String) -> Bool {
    state.withLock { state in
      state.count += 1
      guard state.count == state.failAt else { return false }
      state.failed = "call \(state.count), \(name)"
      return true
    }
  }

  private static let eio: Int32 = -5

  func open(_ path: String) -> Int32 { fails("open") ? Self.eio : linux.open(path) }

  func close(_ descriptor: Int32) { linux.close(descriptor) }

  func control(_ descriptor: Int32, _ request: VFIORequest, value: Int) -> Int32 {
    fails("\(request)") ? Self.eio : linux.control(descriptor, request, value: value)
  }

  func control(
    _ descriptor: Int32, _ request: VFIORequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    fails("\(request)") ? Self.eio : linux.control(descriptor, request, &argument)
  }

  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan) -> Int {
    fails("read") ? Int(Self.eio) : linux.read(descriptor, into: &buffer)
  }

  func write(_ descriptor: Int32, _ bytes: RawSpan) -> Int {
    fails("write") ? Int(Self.eio) : linux.write(descriptor, bytes)
  }

  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan, at offset: UInt64) -> Int {
    fails("pread") ? Int(Self.eio) : linux.read(descriptor, into: &buffer, at: offset)
  }

  func write(_ descriptor: Int32, _ bytes: RawSpan, at offset: UInt64) -> Int {
    fails("pwrite") ? Int(Self.eio) : linux.write(descriptor, bytes, at: offset)
  }

  func map(_ descriptor: Int32, offset: UInt64, byteCount: UInt64) -> Int {
    refusesMaps || fails("mmap")
      ? Int(Self.eio) : linux.map(descriptor, offset: offset, byteCount: byteCount)
  }

  func unmap(address: UInt64, byteCount: UInt64) {
    linux.unmap(address: address, byteCount: byteCount)
  }
}
