import DeviceMigration
import Foundation
import MigrationTransport
import Testing

@Suite struct MigrationTransportTests {
  private func exchange(
    _ listener: MigrationListener, to address: MigrationAddress
  ) throws -> [UInt8] {
    let source = try MigrationTransport.connect(to: address, timeoutMilliseconds: 5000)
    let destination = try listener.accept(waitMilliseconds: 5000, timeoutMilliseconds: 5000)
    try source.send([1, 2, 3])
    try destination.send([9])
    #expect(try source.receive(1) == [9])
    return try destination.receive(3)
  }

  @Test func `a Unix socket connects, and its path goes with the listener`() throws {
    let path = Descriptors.temporaryPath("socket")
    do {
      let listener = try MigrationTransport.listen(on: .unix(path: path))
      #expect(try exchange(listener, to: .unix(path: path)) == [1, 2, 3])
      #expect(Descriptors.exists(path))
    }
    #expect(!Descriptors.exists(path))
  }

  @Test func `a TCP socket connects on the port it was given`() throws {
    let listener = try MigrationTransport.listen(on: .tcp(host: "127.0.0.1", port: 0))
    guard case .tcp(_, let port) = listener.address else {
      Issue.record("\(listener.address)")
      return
    }
    #expect(port != 0)
    #expect(try exchange(listener, to: listener.address) == [1, 2, 3])
  }

  @Test func `a file is written by one side and read by the other`() throws {
    let path = Descriptors.temporaryPath("file")
    defer { Descriptors.remove(path) }
    let writer = try MigrationTransport.connect(to: .file(path: path))
    #expect(!writer.isBidirectional)
    try writer.send([5, 6])
    writer.shutDown()
    let reader = try MigrationTransport.listen(on: .file(path: path)).accept()
    #expect(try reader.receive(10) == [5, 6])
  }

  @Test func `a descriptor is taken over`() throws {
    let (reading, writing) = Descriptors.pipe()
    let writer = try MigrationTransport.connect(to: .descriptor(writing))
    let reader = try MigrationTransport.listen(on: .descriptor(reading)).accept()
    try writer.send([8])
    #expect(try reader.receive(1) == [8])
    #expect(writer.name == "fd:\(writing)")
  }

  @Test func `nobody there is an error that names the address`() throws {
    let path = Descriptors.temporaryPath("nobody")
    let error = #expect(throws: ChannelError.self) {
      try MigrationTransport.connect(to: .unix(path: path))
    }
    #expect(error?.errorNumber == ENOENT && error?.channel == "unix:\(path)")
    let listener = try MigrationTransport.listen(on: .unix(path: path))
    let late = #expect(throws: ChannelError.self) { try listener.accept(waitMilliseconds: 20) }
    #expect(late?.reason == .timedOut && late?.operation == "accept")
  }

  @Test func `a file that is no socket is not removed for one`() throws {
    let path = Descriptors.temporaryPath("kept")
    defer { Descriptors.remove(path) }
    try MigrationTransport.connect(to: .file(path: path)).send([1])
    let error = #expect(throws: ChannelError.self) {
      try MigrationTransport.listen(on: .unix(path: path))
    }
    #expect(error?.errorNumber == EADDRINUSE)
    #expect(Descriptors.exists(path))
  }
}
