import DeviceMigration
import Foundation
import MigrationTransport
import Testing

@Suite struct FileDescriptorChannelTests {
  private func inBackground(_ body: @escaping @Sendable () -> Void) { Thread.detachNewThread(body) }

  @Test func `a socket pair carries bytes both ways and then ends`() throws {
    let (left, right) = try FileDescriptorChannel.pair(timeoutMilliseconds: 5000)
    #expect(left.isBidirectional)
    try left.send([1, 2, 3])
    try right.send([4, 5])
    #expect(try right.receive(3) == [1, 2, 3])
    #expect(try left.receive(2) == [4, 5])
    left.shutDown()
    #expect(try right.receive(1) == [])
  }

  @Test func `large writes arrive whole`() throws {
    let (left, right) = try FileDescriptorChannel.pair(timeoutMilliseconds: 5000)
    let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    inBackground { try? left.send(bytes) }
    #expect(try right.receive(bytes.count) == bytes)
  }

  @Test func `a pipe carries one way and times out`() throws {
    let (reading, writing) = Descriptors.pipe()
    let reader = try FileDescriptorChannel(owning: reading, name: "in", timeoutMilliseconds: 30)
    let writer = try FileDescriptorChannel(owning: writing, name: "out", timeoutMilliseconds: 30)
    #expect(!reader.isBidirectional)
    try writer.send([7])
    #expect(try reader.receive(1) == [7])
    #expect(throws: ChannelError(.timedOut, channel: "in", operation: "read")) {
      try reader.receive(1)
    }
    // More than the pipe holds, and nobody reads.
    #expect(throws: ChannelError(.timedOut, channel: "out", operation: "write")) {
      try writer.send([UInt8](repeating: 1, count: 1 << 20))
    }
    writer.shutDown()
    #expect(try reader.receive(1 << 20).count > 0)
    #expect(throws: ChannelError(.closed, channel: "out", operation: "write")) {
      try writer.send([1])
    }
  }

  @Test func `a peer that is gone is EPIPE and not a signal`() throws {
    let (left, right) = try FileDescriptorChannel.pair()
    right.shutDown()
    let socketError = #expect(throws: ChannelError.self) { try left.send([1]) }
    #expect(socketError?.errorNumber == EPIPE && socketError?.reason == .failed)

    let (reading, writing) = Descriptors.pipe()
    let writer = try FileDescriptorChannel(owning: writing, name: "out")
    close(reading)
    let pipeError = #expect(throws: ChannelError.self) { try writer.send([1]) }
    #expect(pipeError?.errorNumber == EPIPE)
    #expect(pipeError.map { "\($0)" }?.contains("Broken pipe") == true)
  }

  @Test func `a socket that stays silent times out`() throws {
    let (left, right) = try FileDescriptorChannel.pair(timeoutMilliseconds: 30)
    let error = #expect(throws: ChannelError.self) { try left.receive(1) }
    #expect(error?.reason == .timedOut)
    _ = right
  }

  @Test func `shutDown wakes a read that waits, on a socket and on a pipe`() throws {
    let (left, right) = try FileDescriptorChannel.pair()
    let (reading, writing) = Descriptors.pipe()
    let pipe = try FileDescriptorChannel(owning: reading, name: "in")
    for channel in [left, pipe] {
      inBackground {
        usleep(20000)
        channel.shutDown()
      }
      let error = #expect(throws: ChannelError.self) { try channel.receive(1) }
      #expect(error?.reason == .closed)
    }
    _ = right
    close(writing)
  }

  @Test func `the descriptor is closed with the channel, and a pipe's by shutDown`() throws {
    let (reading, writing) = Descriptors.pipe()
    let writer = try FileDescriptorChannel(owning: writing, name: "out")
    do {
      let reader = try FileDescriptorChannel(owning: reading, name: "in")
      try writer.send([1])
      #expect(try reader.receive(1) == [1])
    }
    let error = #expect(throws: ChannelError.self) { try writer.send([1]) }
    #expect(error?.errorNumber == EPIPE)

    let (otherReading, otherWriting) = Descriptors.pipe()
    let other = try FileDescriptorChannel(owning: otherReading, name: "in")
    try FileDescriptorChannel(owning: otherWriting, name: "out").shutDown()
    #expect(try other.receive(1) == [])
  }

  @Test func `a descriptor that is not open is an error`() {
    let error = #expect(throws: ChannelError.self) {
      try FileDescriptorChannel(owning: 99999, name: "none")
    }
    #expect(error?.errorNumber == EBADF)
  }
}
