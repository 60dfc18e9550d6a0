import DeviceMigration
import Foundation
import Locking
@testable import MigrationTransport
import TestSupport
import Testing

/// TLS between two threads, over loopback TCP.
@Suite(.serialized) struct TLSChannelTests {
  private static func context(
    _ own: (certificate: String, key: String), trusting authority: TestCertificates
  ) throws -> TLSContext {
    try TLSContext(
      TLSIdentity(
        certificatePath: own.certificate, keyPath: own.key, authorityPath: authority.authority))
  }

  /// What each side got: a channel, or why not.
  private struct Ends {
    let here: Result<TLSChannel, ChannelError>
    let there: Result<TLSChannel, ChannelError>
    let listener: MigrationListener

    func channels() throws -> (TLSChannel, TLSChannel) { (try here.get(), try there.get()) }
    var errors: String {
      [here, there].map { result in
        if case .failure(let error) = result { "\(error)" } else { "" }
      }.joined(separator: " | ")
    }
  }

  private static func connect(
    _ here: TLSContext, _ there: TLSContext, host: String? = "127.0.0.1",
    timeoutMilliseconds: Int = 20_000
  ) throws -> Ends {
    let listener = try MigrationTransport.listen(on: MigrationAddress("tcp:127.0.0.1:0"))
    let accepted = Mutex<Result<TLSChannel, ChannelError>?>(nil)
    let done = DispatchSemaphore(value: 0)
    let box = Box(accepted)
    Thread.detachNewThread {
      let result = Result { () throws(ChannelError) in
        let socket = try listener.accept(
          waitMilliseconds: timeoutMilliseconds, timeoutMilliseconds: timeoutMilliseconds)
        return try TLSChannel(accepting: socket, there)
      }
      box.value.withLock { $0 = result }
      done.signal()
    }
    let own = Result { () throws(ChannelError) in
      let socket = try MigrationTransport.connect(
        to: listener.address, timeoutMilliseconds: timeoutMilliseconds)
      return try TLSChannel(connecting: socket, here, host: host)
    }
    done.wait()
    return Ends(here: own, there: box.value.withLock { $0! }, listener: listener)
  }

  private final class Box: Sendable {
    let value: Mutex<Result<TLSChannel, ChannelError>?>
    init(_ value: consuming Mutex<Result<TLSChannel, ChannelError>?>) { self.value = value }
  }

  @Test func `bytes arrive whole both ways at once, and the end is an end`() throws {
    let authority = try TestCertificates()
    let ends = try Self.connect(
      try Self.context(try authority.issue("here"), trusting: authority),
      try Self.context(try authority.issue("there"), trusting: authority))
    let (here, there) = try ends.channels()
    let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    let back = Array(bytes.reversed())
    for (channel, own) in [(here, bytes), (there, back)] {
      Thread.detachNewThread { try? channel.send(own) }
    }
    let got = Mutex<[UInt8]>([])
    let done = DispatchSemaphore(value: 0)
    let holder = Bytes(got)
    Thread.detachNewThread {
      let all = (try? here.receive(back.count)) ?? []
      holder.value.withLock { $0 = all }
      done.signal()
    }
    #expect(try there.receive(bytes.count) == bytes)
    done.wait()
    #expect(holder.value.withLock { $0 } == back)
    here.shutDown()
    #expect(try there.receive(1) == [])
    #expect(throws: ChannelError.self) { try here.send([1]) }
  }

  private final class Bytes: Sendable {
    let value: Mutex<[UInt8]>
    init(_ value: consuming Mutex<[UInt8]>) { self.value = value }
  }

  @Test func `what goes over the wire is not what was written`() throws {
    // A relay that keeps what passes.
    let authority = try TestCertificates()
    let context = try Self.context(try authority.issue("both"), trusting: authority)
    let (left, outer) = try FileDescriptorChannel.pair(timeoutMilliseconds: 20_000)
    let (inner, right) = try FileDescriptorChannel.pair(timeoutMilliseconds: 20_000)
    let seen = Bytes(Mutex([]))
    for (from, to) in [(outer, inner), (inner, outer)] {
      Thread.detachNewThread {
        while let piece = try? from.receiveSome(65536), !piece.isEmpty {
          seen.value.withLock { $0 += piece }
          if (try? to.send(piece)) == nil { return }
        }
      }
    }
    let secret = Array("a page of somebody's database".utf8)
    Thread.detachNewThread {
      guard let channel = try? TLSChannel(accepting: right, context) else { return }
      try? channel.send(secret)
      usleep(100_000)
    }
    let channel = try TLSChannel(connecting: left, context, host: nil)
    #expect(try channel.receive(secret.count) == secret)
    let wire = seen.value.withLock { $0 }
    #expect(wire.count > secret.count && !wire.containsSequence(secret))
  }

  @Test(arguments: ["stranger's", "expired", "none"])
  func `a certificate that is not good is refused by the side that is shown it`(
    kind: String
  ) throws {
    let authority = try TestCertificates()
    let good = try Self.context(try authority.issue("good"), trusting: authority)
    let stranger = try TestCertificates()
    let own =
      kind == "expired"
      ? try authority.issue("bad", expired: true) : try stranger.issue("bad")
    let bad = try Self.context(own, trusting: authority)
    guard kind != "none" else {
      // Somebody without any: TCP in clear, which is no hello of TLS.
      let listener = try MigrationTransport.listen(on: MigrationAddress("tcp:127.0.0.1:0"))
      let plain = try MigrationTransport.connect(to: listener.address)
      try plain.send(Array("smudge\r\n".utf8) + [UInt8](repeating: 0, count: 100))
      let socket = try listener.accept(timeoutMilliseconds: 20_000)
      let error = #expect(throws: ChannelError.self) {
        _ = try TLSChannel(accepting: socket, good)
      }
      #expect(error.map { "\($0)" }?.contains("TLS handshake") == true)
      return
    }
    let word = kind == "expired" ? "certificate has expired" : "certificate"
    for (here, there) in [(bad, good), (good, bad)] {
      let ends = try Self.connect(here, there)
      #expect(throws: ChannelError.self) { try ends.here.get() }
      #expect(throws: ChannelError.self) { try ends.there.get() }
      #expect(ends.errors.contains("was refused") && ends.errors.contains(word), "\(ends.errors)")
      // The side whose certificate it is learns of it, too.
      #expect(ends.errors.contains("alert"), "\(ends.errors)")
    }
  }

  @Test func `a certificate for another host is refused`() throws {
    let authority = try TestCertificates()
    let context = try Self.context(try authority.issue("both"), trusting: authority)
    for (host, isGood) in [
      ("127.0.0.1", true), ("localhost", true), ("127.0.0.2", false), ("other.example", false),
    ] {
      let ends = try Self.connect(context, context, host: host)
      #expect(((try? ends.here.get()) != nil) == isGood, "\(host): \(ends.errors)")
    }
  }

  @Test func `TLS 1.2 is not spoken`() throws {
    let authority = try TestCertificates()
    let own = try authority.issue("here")
    let context = try Self.context(own, trusting: authority)
    let listener = try MigrationTransport.listen(on: MigrationAddress("tcp:127.0.0.1:0"))
    guard case .tcp(_, let port) = listener.address else { return }
    let client = Process()
    client.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    client.arguments = [
      "openssl", "s_client", "-tls1_2", "-connect", "127.0.0.1:\(port)", "-cert", own.certificate,
      "-key", own.key,
    ]
    for stream in [\Process.standardInput, \.standardOutput, \.standardError] {
      client[keyPath: stream] = FileHandle.nullDevice
    }
    try client.run()
    let socket = try listener.accept(waitMilliseconds: 20_000, timeoutMilliseconds: 20_000)
    let error = #expect(throws: ChannelError.self) {
      _ = try TLSChannel(accepting: socket, context)
    }
    #expect(error.map { "\($0)" }?.contains("protocol") == true, "\(String(describing: error))")
    client.waitUntilExit()
  }

  @Test func `files that are missing, no PEM or of another key are named`() throws {
    let authority = try TestCertificates()
    let one = try authority.issue("one")
    let other = try authority.issue("other")
    for (certificate, key, vouching, name) in [
      ("/no/such.pem", one.key, authority.authority, "/no/such.pem"),
      (one.certificate, "/no/such.key", authority.authority, "/no/such.key"),
      (one.certificate, one.key, "/no/such-ca.pem", "/no/such-ca.pem"),
      (one.certificate, other.key, authority.authority, other.key),
      (authority.folder + "/ca.cnf", one.key, authority.authority, "/ca.cnf"),
    ] {
      let error = #expect(throws: TLSError.self) {
        _ = try TLSContext(
          TLSIdentity(certificatePath: certificate, keyPath: key, authorityPath: vouching))
      }
      #expect(error?.description.contains(name) == true, "\(String(describing: error))")
    }
  }

  @Test func `a peer that is cut off, silent, or shut down here is told apart`() throws {
    let authority = try TestCertificates()
    let context = try Self.context(try authority.issue("both"), trusting: authority)
    let (cut, gone) = try Self.connect(context, context).channels()
    // The socket under it, without a word of TLS.
    gone.socket.shutDown()
    let error = #expect(throws: ChannelError.self) { try cut.receive(1) }
    #expect(error?.reason == .failed || error?.reason == .ended, "an end that nobody meant")

    let silent = try Self.connect(context, context, timeoutMilliseconds: 2000).channels()
    let late = #expect(throws: ChannelError.self) { try silent.0.receive(1) }
    #expect(late?.reason == .timedOut)

    let (here, there) = try Self.connect(context, context).channels()
    Thread.detachNewThread {
      usleep(50_000)
      here.shutDown()
    }
    let closed = #expect(throws: ChannelError.self) { try here.receive(1) }
    #expect(closed?.reason == .closed)
    _ = there
  }
}

extension Array where Element == UInt8 {
  fileprivate func containsSequence(_ other: [UInt8]) -> Bool {
    guard count >= other.count else { return false }
    return (0...(count - other.count)).contains { Array(self[$0..<($0 + other.count)]) == other }
  }
}
