import Simulation
import Testing
import VFIOUser

/// Where a server is met.
@Suite struct ListenerTests {
  @Test func `a client meets a server at a path, one after the other, and the path goes`() throws {
    let path = "/tmp/smudge-vfio-user-\(UInt64.random(in: 0 ... .max)).socket"
    do {
      let listener = try VFIOUserListener(path: path)
      #expect(throws: VFIOUserError.self) { try VFIOUserListener(path: path) }
      let device = TestDevice()
      let server = VFIOUserServer(device: device)
      for count in 1...2 {
        let thread = try SimulatedThread(name: "server") {
          guard let socket = try? listener.accept() else { return }
          server.serve(socket)
        }
        let client = try VFIOUserClient(path: path, name: "test")
        #expect(try client.deviceInformation().irqCount == 5)
        client.shutDown()
        thread.join()
        #expect(device.leftCount == count)
      }
      // Whoever waits wakes.
      let waiting = try SimulatedThread(name: "accept") { _ = try? listener.accept() }
      listener.shutDown()
      waiting.join()
    }
    #expect(throws: VFIOUserError.self) { try VFIOUserClient(path: path, name: "test") }
    #expect(throws: VFIOUserError.self) {
      try VFIOUserListener(path: "/tmp/" + String(repeating: "x", count: 200))
    }
  }
}
