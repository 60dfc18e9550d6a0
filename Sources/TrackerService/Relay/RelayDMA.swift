import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Dispatch
import Locking
import VFIOUser

/// Carries out what a device's server reads and writes by message: on guest memory here, where that
/// is marked, or by the VMM, which then logs it itself.
///
/// The VMM may hold its own lock while it waits for an answer of ours, and need that lock for an
/// answer of its own: so nothing here waits for the VMM. A message that goes on to it is answered
/// when its answer comes, and commands pass it meanwhile. A thread takes these answers, since the
/// one that serves the VMM may be waiting for a server that waits for one of them.
final class RelayDMA: DMAMessageHandler {
  private let session: RelaySession
  private let backend: VFIOUserContainer
  private let vmm = Mutex<VFIOUserServer?>(nil)
  /// One for each message that went on, and one for the end.
  private let asked = DispatchSemaphore(value: 0)

  init(_ session: RelaySession, _ backend: VFIOUserContainer) {
    self.session = session
    self.backend = backend
  }

  /// Who DMA goes on to from now on.
  func passOn(to server: VFIOUserServer?) {
    vmm.withLock { $0 = server }
    if server == nil { asked.signal() }
  }

  /// Until DMA goes on to nobody.
  func takeAnswers() {
    while true {
      asked.wait()
      guard let server = vmm.withLock({ $0 }) else { return }
      // Its error ends the connection, and whoever serves that learns of it.
      try? server.takeAnswers()
    }
  }

  func takesOver(_ request: VFIOUserRequest, _ answer: DMAAnswer) -> Bool {
    let first: IOVA
    switch request {
    case .dmaRead(let range), .dmaWrite(let range, _): first = range.first
    default: return false
    }
    guard !session.course.marks || session.isOwnMemory(first) else { return false }
    guard let server = vmm.withLock({ $0 }) else { return false }
    do throws(VFIOUserError) {
      try server.request(request) { result in
        switch result {
        case .success(.dmaRead(let data)): answer.done(data)
        case .success: answer.done()
        case .failure(let error): answer.refused(error.errno == 0 ? 14 : error.errno)
        }
      }
    } catch {
      answer.refused(error.errno == 0 ? 14 : error.errno)
      return true
    }
    asked.signal()
    return true
  }

  func read(into bytes: inout MutableRawSpan, at iova: IOVA) -> Int32 {
    backend.read(into: &bytes, at: iova)
  }

  func write(_ bytes: RawSpan, at iova: IOVA) -> Int32 {
    guard session.course.omissions.contains(.lateLookup) else {
      return backend.write(bytes, at: iova)
    }
    guard let range = IOVARange(first: iova, byteCount: UInt64(bytes.byteCount)),
      let mapping = session.course.tracker.lookup(session.container, iova),
      mapping.iova.contains(range), let place = mapping.translate(iova),
      session.course.files.writeUnmarked(bytes, at: place)
    else { return 14 }
    session.course.note(LateWrite(container: session.container, iova: range))
    return 0
  }
}
