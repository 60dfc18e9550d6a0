import Addressing
import Simulation
import VFIOUser

/// A client and a server in one process, each with a thread of its own.
final class TestPair {
  let device: TestDevice
  let server: VFIOUserServer
  let client: VFIOUserClient
  private let threads: [SimulatedThread]

  struct Options {
    var device = TestDevice.Options()
    var server = VFIOUserServerOptions()
    var client = VFIOUserClientOptions()
    /// Has the client served while it is idle.
    var serves = true
  }

  init(_ options: Options = Options()) throws {
    let (left, right) = try VFIOUserSocket.pair()
    let device = TestDevice(options.device)
    let server = VFIOUserServer(device: device, options: options.server)
    device.attach(server)
    var threads = [try SimulatedThread(name: "server") { server.serve(right) }]
    let client = try VFIOUserClient(socket: left, name: "test", options: options.client)
    if options.serves {
      threads.append(
        try SimulatedThread(name: "client") {
          while (try? client.serve(milliseconds: nil)) != nil {}
        })
    }
    self.device = device
    self.server = server
    self.client = client
    self.threads = threads
  }

  /// Ends both sides and waits for their threads.
  func close() {
    client.shutDown()
    server.shutDown()
    for thread in threads { thread.join() }
    device.attach(nil)
  }

  func container(_ ram: TestRAM, byMessage: Bool = false) throws -> VFIOUserContainer {
    try VFIOUserContainer(
      name: "nic", client: client, files: byMessage ? [] : [ram.file], memory: ram)
  }
}

/// A server for a raw client.
final class RawClient {
  let peer: RawPeer
  let device: TestDevice
  let server: VFIOUserServer
  private let thread: SimulatedThread

  init(_ options: TestPair.Options = .init(), negotiates: Bool = true) throws {
    let (left, right) = try VFIOUserSocket.pair()
    let device = TestDevice(options.device)
    let server = VFIOUserServer(device: device, options: options.server)
    device.attach(server)
    thread = try SimulatedThread(name: "server") { server.serve(right) }
    peer = RawPeer(left)
    self.device = device
    self.server = server
    if negotiates {
      peer.send(
        .version(
          VersionMessage(minor: 2, capabilities: VersionCapabilities(descriptorCountMax: 8))))
      _ = peer.receive()
    }
  }

  func close() {
    peer.shutDown()
    thread.join()
    device.attach(nil)
  }

  /// Sends and awaits the answer.
  func ask(
    _ request: VFIOUserRequest, _ descriptors: [OwnedDescriptor] = []
  ) -> RawPeer.Message? {
    peer.send(request, id: 1, awaitsReply: true, descriptors)
    return peer.receive()
  }

  func ask(_ command: UInt16, _ payload: [UInt8]) -> RawPeer.Message? {
    peer.send(RawPeer.bytes(command, payload))
    return peer.receive()
  }
}
