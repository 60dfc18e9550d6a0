import Foundation

/// Certificates for 127.0.0.1 and localhost, made by the command-line tool of OpenSSL in a folder
/// that goes with this.
public final class TestCertificates {
  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  public let folder: String
  public var authority: String { folder + "/authority.pem" }

  /// An authority; each of two is a stranger to the other.
  public init() throws {
    folder = "/tmp/smudge-tls-\(UUID().uuidString)"
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: true)
    try write(
      """
      [ca]
      default_ca = authority
      [authority]
      database = index.txt
      new_certs_dir = .
      serial = serial
      unique_subject = no
      default_md = sha256
      policy = names
      x509_extensions = extensions
      [names]
      commonName = supplied
      [extensions]
      subjectAltName = IP:127.0.0.1,DNS:localhost
      """, "ca.cnf")
    try write("", "index.txt")
    try write("01", "serial")
    try run(
      ["req", "-x509"] + Self.newKey
        + ["-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=authority"]
        + ["-days", "30"])
  }

  deinit {
    // A folder in /tmp that stays is no failure of a test.
    try? FileManager.default.removeItem(atPath: folder)
  }

  private static let newKey = [
    "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
  ]

  /// - Returns: the paths of a certificate and its key.
  public func issue(
    _ name: String, expired: Bool = false
  ) throws -> (certificate: String, key: String) {
    try run(
      ["req"] + Self.newKey
        + ["-keyout", "\(name).key", "-out", "\(name).csr", "-subj", "/CN=\(name)"])
    let dates =
      expired ? ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"] : ["-days", "30"]
    try run(
      [
        "ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "authority.pem", "-keyfile",
        "authority.key", "-in", "\(name).csr", "-out", "\(name).pem",
      ] + dates)
    return ("\(folder)/\(name).pem", "\(folder)/\(name).key")
  }

  private func write(_ text: String, _ name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name)"))
  }

  private func run(_ arguments: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["openssl"] + arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    let log = folder + "/log"
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    process.standardOutput = FileHandle.nullDevice
    process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: log))
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      let words = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
      throw Failure(description: "openssl \(arguments.joined(separator: " ")): \(words)")
    }
  }
}
