import COpenSSL
import Glibc

/// What all connections of one identity share.
///
/// Unsafe because OpenSSL's objects are addresses. Sound because the context is made here, is not
/// changed after `init`, and is freed once, in `deinit`; OpenSSL counts its connections.
@safe public final class TLSContext: @unchecked Sendable {
  let context: OpaquePointer
  public let identity: TLSIdentity

  /// Reads the files. TLS 1.3 and nothing older; both sides must show a certificate that an
  /// authority of the identity vouches for.
  public init(_ identity: TLSIdentity) throws(TLSError) {
    self.identity = identity
    ERR_clear_error()
    guard let context = unsafe SSL_CTX_new(TLS_method()) else {
      throw TLSError("context", OpenSSLText.lastError())
    }
    unsafe self.context = context
    guard unsafe smudge_tls_only_13(context) == 1 else {
      throw TLSError("version 1.3", OpenSSLText.lastError())
    }
    unsafe smudge_tls_set_modes(context)
    unsafe SSL_CTX_set_verify(
      context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    // A stream is one connection: what would make a second one faster is not kept.
    unsafe SSL_CTX_set_num_tickets(context, 0)
    guard unsafe SSL_CTX_use_certificate_chain_file(context, identity.certificatePath) == 1 else {
      throw TLSError("certificate \(identity.certificatePath)", OpenSSLText.lastError())
    }
    guard unsafe SSL_CTX_use_PrivateKey_file(context, identity.keyPath, SSL_FILETYPE_PEM) == 1
    else { throw TLSError("key \(identity.keyPath)", OpenSSLText.lastError()) }
    guard unsafe SSL_CTX_check_private_key(context) == 1 else {
      throw TLSError(
        "key \(identity.keyPath)",
        "it does not belong to \(identity.certificatePath): \(OpenSSLText.lastError())")
    }
    guard unsafe SSL_CTX_load_verify_file(context, identity.authorityPath) == 1 else {
      throw TLSError("authority \(identity.authorityPath)", OpenSSLText.lastError())
    }
  }

  deinit { unsafe SSL_CTX_free(context) }
}

/// What OpenSSL says, in words.
///
/// Unsafe in buffers that it fills; sound because each is given with its own size.
enum OpenSSLText {
  /// Marks a code of OpenSSL's that is an errno.
  private static let systemFlag: UInt = 0x8000_0000

  /// The errors of this thread, the first one first, and none of them is left.
  static func lastError() -> String {
    let number = errno
    var parts: [String] = []
    while true {
      let code = ERR_get_error()
      guard code != 0 else { break }
      let part = text(code)
      if !parts.contains(part) { parts.append(part) }
    }
    guard parts.isEmpty else { return parts.prefix(3).joined(separator: ", ") }
    return number == 0 ? "no reason is known" : SystemCalls.text(number)
  }

  private static func text(_ code: UInt) -> String {
    if code & systemFlag != 0 { return SystemCalls.text(Int32(code & (systemFlag - 1))) }
    if let reason = unsafe ERR_reason_error_string(code) { return unsafe String(cString: reason) }
    var buffer = [CChar](repeating: 0, count: 256)
    unsafe ERR_error_string_n(code, &buffer, buffer.count)
    return String(
      decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Why a certificate was not believed.
  static func verification(_ code: Int) -> String {
    guard let text = unsafe X509_verify_cert_error_string(code) else { return "error \(code)" }
    return unsafe String(cString: text)
  }
}
