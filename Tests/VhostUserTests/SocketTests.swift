import Dispatch
import Glibc
import Locking
import Simulation
import Testing

@testable import VhostUser

/// The listening socket and its file.
@Suite struct SocketTests {
  private static func refusal(_ path: String) -> VhostUserError? {
    do throws(VhostUserError) {
      _ = try Companion(path: path, delegate: RecordingDelegate())
      return nil
    } catch {
      return error
    }
  }

  @Test func `the socket is the owner's alone and goes with its companion`() throws {
    let path = Descriptors.temporaryPath("own")
    let companion = try Companion(path: path, delegate: RecordingDelegate())
    #expect(Descriptors.mode(path) == 0o600)
    companion.end()
    #expect(!Descriptors.exists(path))
    companion.end()
  }

  @Test func `a live socket is left alone, undisturbed, and a stale one replaced`() throws {
    let path = Descriptors.temporaryPath("stale")
    let delegate = RecordingDelegate()
    let companion = try Companion(path: path, delegate: delegate)
    #expect(Self.refusal(path) == .socketInUse(path: path))
    #expect(companion.status.refusedFrontEndCount == 0 && delegate.take() == [])
    FrontEnd(path).realize()
    companion.end()
    // What a process leaves that is killed: a file nobody listens at.
    let (dead, _) = SocketCalls.listen(at: path)
    Descriptors.close(dead)
    #expect(Descriptors.exists(path))
    let next = try Companion(path: path, delegate: RecordingDelegate())
    FrontEnd(path).realize()
    next.end()
  }

  @Test func `many companions start at once in one folder`() throws {
    let paths = (0..<8).map { Descriptors.temporaryPath("many-\($0)") }
    let results = Mutex<[String]>([])
    let threads = try paths.map { path in
      try SimulatedThread(name: "starter") {
        for _ in 0..<20 {
          do throws(VhostUserError) {
            let companion = try Companion(path: path, delegate: RecordingDelegate())
            companion.end()
          } catch {
            results.withLock { $0.append("\(error)") }
          }
        }
      }
    }
    for thread in threads { thread.join() }
    #expect(results.withLock { $0 } == [])
  }

  @Test func `what is no socket, and a path that cannot be, are refused by name`() {
    let path = Descriptors.temporaryPath("file")
    Descriptors.touch(path)
    defer { Descriptors.remove(path) }
    #expect(Self.refusal(path) == .socketInUse(path: path))
    #expect(Descriptors.exists(path))
    #expect(
      Self.refusal("/tmp/none/none/x") == .socketFailed(path: "/tmp/none/none/x", errno: ENOENT))
    let long = "/tmp/" + String(repeating: "x", count: 108)
    #expect(Self.refusal(long) == .socketFailed(path: long, errno: ENAMETOOLONG))
    #expect(Self.refusal("") == .socketFailed(path: "", errno: ENOENT))
  }

  @Test func `a socket file that was replaced is not removed`() throws {
    let path = Descriptors.temporaryPath("replaced")
    let companion = try Companion(path: path, delegate: RecordingDelegate())
    Descriptors.remove(path)
    Descriptors.touch(path)
    companion.end()
    #expect(Descriptors.exists(path))
    Descriptors.remove(path)
  }

  @Test func `a listener that was handed over is served, and its file stays`() throws {
    let path = Descriptors.temporaryPath("handed")
    let (descriptor, file) = SocketCalls.listen(at: path)
    let companion = try Companion(
      owningListener: descriptor, delegate: RecordingDelegate())
    FrontEnd(path).realize()
    companion.end()
    #expect(Descriptors.exists(path))
    file.remove()
    #expect(!Descriptors.exists(path))
  }

  @Test func `a companion can be ended from a call of its delegate`() throws {
    let world = try CompanionWorld("inside")
    let companion = world.companion
    world.delegate.stopping { () throws(VhostUserError) in companion.end() }
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    #expect(frontEnd.stop() == 17)
    #expect(world.delegate.awaitDisconnection() == .ended)
    #expect(frontEnd.isClosed())
  }

  @Test func `a slow stop keeps nobody from asking and marking`() throws {
    let world = try CompanionWorld("slow")
    let companion = world.companion
    let (entered, leave) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    world.delegate.stopping { () throws(VhostUserError) in
      entered.signal()
      leave.wait()
    }
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    let file = LogFile(byteCount: 4096)
    frontEnd.startLogging(file)
    frontEnd.send(.getRingBase(RingNumber(ring: 0, value: 0)))
    entered.wait()
    #expect(companion.status.phase == .stopping && companion.ram.regions.count == 2)
    try companion.log.mark(SharedDirtyLogTests.pages(2, 2))
    #expect(file.takePages() == [2])
    leave.signal()
    #expect(frontEnd.receive()?.header.request == 11)
    #expect(companion.status.phase == .stopped)
  }
}
