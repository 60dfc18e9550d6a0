import ArgumentParser
import DeviceMigration
import MigrationTransport

/// Who may hear and say the stream.
struct TLSArguments: ParsableArguments {
  @Option(help: "This side's certificate, PEM. With it go --tls-key and --tls-ca: TLS 1.3.")
  var tlsCert: String?

  @Option(help: "The private key of --tls-cert, PEM, without a passphrase.")
  var tlsKey: String?

  @Option(help: "Who vouches for the other side's certificate, PEM. Nobody else does.")
  var tlsCa: String?

  @Flag(
    help: """
      Send or take guest memory over a network in clear, from and to anybody. Needed for any \
      address but loopback and unix: where there is no TLS.
      """)
  var insecure = false

  func validate() throws {
    let given = [tlsCert, tlsKey, tlsCa].compactMap(\.self)
    guard given.isEmpty || given.count == 3 else {
      throw ValidationError("--tls-cert, --tls-key and --tls-ca belong together")
    }
    guard given.isEmpty || !insecure else {
      throw ValidationError("--insecure and TLS: say one of the two")
    }
  }

  /// - Throws: guest memory would go over a network in clear, and nobody said that it may.
  func check(_ address: MigrationAddress) throws {
    if tlsCert != nil {
      guard address.canConnectAgain else {
        throw ValidationError("TLS is for sockets: unix:PATH or tcp:HOST:PORT, not \(address)")
      }
      return
    }
    guard address.staysOnThisMachine || insecure else {
      throw ValidationError(
        "\(address) is not on this machine, and guest memory would go there in clear, from and to "
          + "anybody: give --tls-cert, --tls-key and --tls-ca, or say --insecure")
    }
  }

  /// Says on standard error that there is no protection.
  func warn(_ address: MigrationAddress) {
    guard insecure, !address.staysOnThisMachine else { return }
    Terminal.error(
      "smudge: --insecure: \(address) carries guest memory in clear, and whoever reaches it can "
        + "read, change or replace the guest")
  }

  /// Nil without TLS.
  func context() throws(ToolError) -> TLSContext? {
    guard let tlsCert, let tlsKey, let tlsCa else { return nil }
    do throws(TLSError) {
      return try TLSContext(
        TLSIdentity(certificatePath: tlsCert, keyPath: tlsKey, authorityPath: tlsCa))
    } catch {
      throw ToolError("\(error)")
    }
  }
}

extension TLSContext {
  /// The other side of `socket` must be whom `address` names.
  func connected(
    _ socket: FileDescriptorChannel, to address: MigrationAddress
  ) throws(ChannelError) -> TLSChannel {
    let host: String? = if case .tcp(let host, _) = address { host } else { nil }
    return try TLSChannel(connecting: socket, self, host: host)
  }
}
