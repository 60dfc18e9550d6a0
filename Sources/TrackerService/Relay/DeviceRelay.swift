import Locking
import VFIOUser
import VhostUser

/// The socket at which the VMM finds a device, and the thread that serves it there: one connection
/// after the other.
final class DeviceRelay: Sendable {
  private struct State: Sendable {
    var isEnding = false
    var client: VFIOUserClient?
    var server: VFIOUserServer?
  }

  let configuration: DeviceConfiguration
  private let course: VMCourse
  private let listener: VFIOUserListener
  private let state = Mutex(State())
  private let thread = Mutex<ServerThread?>(nil)

  init(_ configuration: DeviceConfiguration, _ course: VMCourse) throws(ServiceError) {
    self.configuration = configuration
    self.course = course
    do throws(VFIOUserError) {
      listener = try VFIOUserListener(path: configuration.vmmSocket)
    } catch {
      throw .device(name: configuration.name, error)
    }
  }

  func start() throws(ServiceError) {
    do throws(VhostUserError) {
      let started = try ServerThread("vfio-user") { self.run() }
      thread.withLock { $0 = started }
    } catch {
      throw .noThread("\(error)")
    }
  }

  private func run() {
    while !state.withLock({ $0.isEnding }) {
      do throws(VFIOUserError) {
        let socket = try listener.accept()
        let reason = try serve(socket)
        course.say(.info, "device \(configuration.name): the VMM's connection has ended: \(reason)")
      } catch {
        if state.withLock({ $0.isEnding }) { return }
        course.say(.error, "device \(configuration.name): \(error)")
        // accept has none left, for one; not to spin.
        if error.operation.hasPrefix("accept") { ServiceClock.rest(milliseconds: 100) }
      }
    }
  }

  /// - Returns: why it ended.
  private func serve(_ socket: VFIOUser.OwnedDescriptor) throws(VFIOUserError) -> VFIOUserError {
    let client = try VFIOUserClient(
      path: configuration.serverSocket, name: configuration.name)
    let session = try RelaySession(configuration, client, course)
    defer { session.end() }
    let server = VFIOUserServer(
      device: try RelayDevice(session),
      options: VFIOUserServerOptions(
        limits: MessageLimits(dataByteCountMax: client.dataByteCountMax, descriptorCountMax: 16),
        offersTwinSocket: false,
        mappingCountMax: min(
          client.server.capabilities.mappingCountMax ?? .max,
          VFIOUserServerOptions.mappingCountLargest)))
    let isWanted = state.withLock { state in
      state.client = client
      state.server = server
      return !state.isEnding
    }
    guard isWanted else { return VFIOUserError(.connectionLost, operation: "end") }
    defer {
      state.withLock { state in
        state.client = nil
        state.server = nil
      }
    }
    session.passDMA(to: server)
    let answers = try startThread("vfio-user answers") { session.takeAnswers() }
    defer {
      session.passDMA(to: nil)
      answers.join()
    }
    let dma = try startDMA(session, server)
    defer {
      client.shutDown()
      dma.join()
    }
    course.add(session)
    defer { course.remove(session) }
    course.say(
      .notice, "device \(configuration.name): the VMM has connected; it \(session.way.sentence)")
    return server.serve(socket)
  }

  /// The thread on which the server's messages are carried out while the VMM asks for nothing.
  private func startDMA(
    _ session: RelaySession, _ server: VFIOUserServer
  ) throws(VFIOUserError) -> ServerThread {
    try startThread("vfio-user DMA") { [course] in
      do throws(VFIOUserError) {
        while true { try session.client.serve(milliseconds: nil) }
      } catch {
        course.say(.info, "device \(session.name): its server: \(error)")
        // The VMM learns it by the end of its own connection.
        server.shutDown()
      }
    }
  }

  private func startThread(
    _ name: String, _ body: @escaping @Sendable () -> Void
  ) throws(VFIOUserError) -> ServerThread {
    do throws(VhostUserError) { return try ServerThread(name, body) } catch {
      throw VFIOUserError(
        .system, object: configuration.name, operation: "pthread_create", detail: "\(error)")
    }
  }

  /// Ends the connection and the thread, and removes the socket.
  func end() {
    let (client, server) = state.withLock { state in
      state.isEnding = true
      return (state.client, state.server)
    }
    listener.shutDown()
    server?.shutDown()
    client?.shutDown()
    thread.withLock { thread in
      thread?.join()
      thread = nil
    }
  }
}
