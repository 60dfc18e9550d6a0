import Locking

/// A companion of one VM: listens at a UNIX socket, serves one front-end at a time on a thread of
/// its own, and tells its delegate what the VM does. What it decides is ``CompanionCore``'s.
///
///     qemu-system-x86_64 … -object memory-backend-memfd,id=mem,size=…,share=on \
///       -chardev socket,id=companion,path=SOCKET \
///       -device vhost-user-blk-pci,chardev=companion,num-queues=1,disable-legacy=on
///
/// Invariants:
/// 1. One front-end at a time: a second one is accepted and closed at once, and counted.
/// 2. Every descriptor that a front-end sent is closed when nothing here uses it any more, however
///    the connection ends.
/// 3. A front-end that is gone, silent, slow or malicious ends its connection at most; it never
///    raises a signal, and `end` does not wait for it.
/// 4. The socket file is this companion's own: a live one of another process is left alone, and
///    one that has been replaced is not removed.
public final class Companion: Sendable {
  /// Where dirty pages go. Any thread may mark.
  public var log: SharedDirtyLog { shared.log }

  private let shared: CompanionShared
  private let thread: ServerThread
  private let file: SocketCalls.SocketFile?

  /// Listens at `path`, mode 0600.
  /// - Parameters:
  ///   - delegate: held until ``end()``.
  ///   - acceptsUnsealedLog: takes dirty logs whose file can shrink, which a front-end can use to
  ///     end this process. QEMU seals its log.
  public convenience init(
    path: String, delegate: any CompanionDelegate, acceptsUnsealedLog: Bool = false
  ) throws(VhostUserError) {
    let (descriptor, file) = SocketCalls.listen(at: path)
    guard descriptor >= 0 else {
      // EADDRINUSE, and EBUSY while another process holds the folder's lock.
      if descriptor == -98 || descriptor == -16 { throw .socketInUse(path: path) }
      throw .socketFailed(path: path, errno: -descriptor)
    }
    try self.init(
      listener: OwnedDescriptor(owning: descriptor), file: file, delegate: delegate,
      acceptsUnsealedLog: acceptsUnsealedLog)
  }

  /// Takes over a listening socket, as systemd hands them over. Its file is not removed.
  public convenience init(
    owningListener descriptor: Int32, delegate: any CompanionDelegate,
    acceptsUnsealedLog: Bool = false
  ) throws(VhostUserError) {
    try self.init(
      listener: OwnedDescriptor(owning: descriptor), file: nil, delegate: delegate,
      acceptsUnsealedLog: acceptsUnsealedLog)
  }

  private init(
    listener: OwnedDescriptor, file: SocketCalls.SocketFile?, delegate: any CompanionDelegate,
    acceptsUnsealedLog: Bool
  ) throws(VhostUserError) {
    do throws(VhostUserError) {
      let wake = SocketCalls.makeWake()
      guard wake >= 0 else { throw .connectionFailed(operation: "eventfd", errno: -wake) }
      let shared = CompanionShared(
        wake: OwnedDescriptor(owning: wake), acceptsUnsealedLog: acceptsUnsealedLog)
      self.thread = try ServerThread("companion") {
        CompanionLoop(shared: shared, delegate: delegate, listener: listener).run()
      }
      self.shared = shared
      self.file = file
    } catch {
      file?.remove()
      throw error
    }
  }

  deinit { end() }

  /// Closes the connection and the socket, and waits until the delegate is called no more. From a
  /// call of the delegate it does not wait.
  public func end() {
    guard shared.end() else { return }
    file?.remove()
    thread.join()
  }

  /// The guest's RAM as the front-end last said. The descriptors in it stay open as long as the
  /// copy lives.
  public var ram: RAMTable { shared.ram.withLock { $0 } }

  public var status: CompanionStatus {
    var status = shared.core.withLock { $0.status }
    status.refusedFrontEndCount = shared.refusedFrontEndCount.withLock { $0 }
    return status
  }

  /// The owner has seen a vCPU access one of its devices, so the VM runs: a guest that never drives
  /// this device again does not say so. Only an access that its vCPU waits for counts: a write that
  /// was posted may have been sent before the VM stopped.
  /// - Returns: whether that ended a stop that was answered; `runsAgain` is not called then.
  public func noteAccess() -> Bool {
    shared.core.withLock { $0.noteAccess() }
  }
}
