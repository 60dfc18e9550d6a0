#if canImport(MigrationTransport)
  import DeviceMigration
  import Foundation
  import MigrationTransport
  import Locking

  /// The first pre-copy pass of 1 GiB over loopback TCP, with and without TLS 1.3: the processor
  /// time of both sides together.
  enum SecureStreamBench {
    static let name = "first pre-copy pass of 1 GiB over TCP with TLS 1.3, processor time"
    static let peer = "the same without TLS"

    static var section: Section {
      Section(name: "tls", rows: [Row(name: name, peer: peer, target: 2)]) { recorder, effort in
        guard let identity = try Identity() else {
          recorder.skip(peer, because: "the command-line tool of OpenSSL is not installed")
          return
        }
        let context = try TLSContext(identity.files)
        let words = effort.size(1 << 27, quick: 1 << 21)
        let source = FlatMemory(Words(count: words))
        let target = FlatMemory(Words(count: words))
        var random = SplitMix(state: 14)
        source.words.fill { _ in random.next() }
        for _ in 0..<effort.repetitions {
          for (contender, tls) in [(Recorder.own, context), (peer, nil)] {
            target.words.clear()
            let (near, far) = try pair(tls)
            try StreamBench.pass(source, target, near, far) { body in
              try recorder.timeOnCores(name, contender, body)
            }
            precondition(target.words.isEqual(to: source.words), "everything arrived")
          }
        }
      }
    }

    private final class Accepted: Sendable {
      let channel = Mutex<Result<any ByteChannel, any Error>?>(nil)
      let isThere = DispatchSemaphore(value: 0)
    }

    private static func pair(
      _ tls: TLSContext?
    ) throws -> (any ByteChannel, any ByteChannel) {
      let listener = try MigrationTransport.listen(on: MigrationAddress("tcp:127.0.0.1:0"))
      let accepted = Accepted()
      Thread.detachNewThread {
        let result = Result { () throws -> any ByteChannel in
          let socket = try listener.accept()
          return try tls.map { try TLSChannel(accepting: socket, $0) } ?? socket
        }
        accepted.channel.withLock { $0 = result }
        accepted.isThere.signal()
      }
      let socket = try MigrationTransport.connect(to: listener.address)
      let near: any ByteChannel =
        try tls.map { try TLSChannel(connecting: socket, $0, host: "127.0.0.1") } ?? socket
      accepted.isThere.wait()
      guard let far = try accepted.channel.withLock({ try $0?.get() }) else {
        preconditionFailure("an answer is there before it is said to be")
      }
      return (near, far)
    }

    /// One certificate that vouches for itself, for both sides.
    private final class Identity {
      private let folder = "/tmp/smudge-bench-\(UUID().uuidString)"
      var files: TLSIdentity {
        TLSIdentity(
          certificatePath: folder + "/c.pem", keyPath: folder + "/c.key",
          authorityPath: folder + "/c.pem")
      }

      /// Nil where there is no tool to make it.
      init?() throws {
        try FileManager.default.createDirectory(
          atPath: folder, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
          "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
          "-nodes", "-keyout", folder + "/c.key", "-out", folder + "/c.pem", "-subj", "/CN=bench",
          "-days", "2", "-addext", "subjectAltName=IP:127.0.0.1",
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { return nil }
      }

      deinit {
        // A folder in /tmp that stays is no failure of a benchmark.
        try? FileManager.default.removeItem(atPath: folder)
      }
    }
  }
#endif
