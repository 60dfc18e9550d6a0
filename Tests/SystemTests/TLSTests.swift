import Foundation
import MigrationTransport
import TestSupport
import Testing

/// Who may hear and say a stream.
@Suite(.serialized) struct TLSTests {
  private static let fast = [
    "migrate", "--sample", "--memory", "16M", "--limit", "60000", "--timeout", "20",
  ]

  private func options(
    _ own: (certificate: String, key: String), _ authority: TestCertificates
  ) -> [String] {
    ["--tls-cert", own.certificate, "--tls-key", own.key, "--tls-ca", authority.authority]
  }

  private func receiver(_ more: [String]) throws -> (Smudge, address: String) {
    let receiver = try Smudge(
      ["receive", "--listen", "tcp:127.0.0.1:0", "--memory", "16M", "--timeout", "20"] + more)
    #expect(receiver.waits(for: "waiting on ") && receiver.waits(for: "\n"))
    let line = receiver.output.split(separator: "\n").first?.split(separator: " ").last
    return (receiver, String(try #require(line)))
  }

  @Test
  func `a wrong certificate, an expired one and none are refused, and the right one migrates`()
    throws
  {
    let authority = try TestCertificates()
    let stranger = try TestCertificates()
    let good = options(try authority.issue("there"), authority)
    let (receiver, address) = try receiver(good)
    let refused = [
      options(try stranger.issue("wrong"), authority),
      options(try authority.issue("expired", expired: true), authority), [],
    ]
    for (index, bad) in refused.enumerated() {
      let outcome = try Smudge(Self.fast + ["--to", address, "--json"] + bad).wait()
      #expect(outcome.exits(3) && outcome.isReadable, "\(index): \(outcome)")
      #expect(outcome.document?["guest"] as? String == "source", "\(index): \(outcome)")
      #expect(receiver.process.isRunning, "\(index): \(receiver.errors)")
    }
    #expect(
      receiver.errors.components(separatedBy: "waiting for another peer").count == 4,
      "\(receiver.errors)")
    // A destination that is not whom the source trusts.
    let doubting = options(try stranger.issue("here"), stranger)
    let outcome = try Smudge(Self.fast + ["--to", address] + doubting).wait()
    #expect(outcome.exits(3) && outcome.errors.contains("certificate"), "\(outcome)")
    #expect(outcome.errors.contains("the guest runs on here"), "\(outcome)")
    let sent = try Smudge(
      Self.fast + ["--to", address] + options(try authority.issue("here"), authority)
    ).wait()
    #expect(sent.exits(0), "\(sent)")
    let received = receiver.wait()
    #expect(received.exits(0) && received.output.contains("ran on here"), "\(received)")
  }

  @Test func `insecure is said on standard error, and files of TLS that are wrong are named`()
    throws
  {
    // An address of a documentation network: nobody answers, and that is not what is tried.
    let insecure = try Smudge(
      Self.fast + ["--to", "tcp:192.0.2.1:9", "--insecure", "--timeout", "1"]
    ).wait()
    #expect(insecure.exits(3) && insecure.errors.contains("in clear"), "\(insecure)")
    let missing = try Smudge(
      Self.fast + [
        "--to", "tcp:127.0.0.1:9", "--tls-cert", "/no/such.pem", "--tls-key", "k", "--tls-ca", "c",
      ]
    ).wait()
    #expect(missing.exits(3) && missing.errors.contains("/no/such.pem"), "\(missing)")
  }
}
