/// Who this side is, and whom it believes: files in PEM.
public struct TLSIdentity: Hashable, Sendable {
  /// This side's certificate, with those between it and the authority, if there are any.
  public var certificatePath: String
  /// The certificate's private key, without a passphrase.
  public var keyPath: String
  /// The authorities that may vouch for the other side. No others do, those of the system neither.
  public var authorityPath: String

  public init(certificatePath: String, keyPath: String, authorityPath: String) {
    self.certificatePath = certificatePath
    self.keyPath = keyPath
    self.authorityPath = authorityPath
  }
}

/// TLS cannot be used as asked: a file that is missing or no PEM, a key of another certificate.
public struct TLSError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The file or the step.
  public let object: String
  /// A clause, with OpenSSL's words.
  public let detail: String

  init(_ object: String, _ detail: String) {
    self.object = object
    self.detail = detail
  }

  public var description: String { "TLS: \(object): \(detail)" }
}
