/// Where a stream comes from or goes to, as people write it.
public enum MigrationAddress: Hashable, Sendable, CustomStringConvertible {
  /// `unix:PATH`: a stream socket in the file system, at most 107 bytes of path.
  case unix(path: String)
  /// `tcp:HOST:PORT`; an IPv6 address in brackets. Port 0 listens on any free one.
  case tcp(host: String, port: UInt16)
  /// `fd:N`: open already; a socket, a pipe or a file.
  case descriptor(Int32)
  /// `file:PATH`: written from the start, or read.
  case file(path: String)

  /// - Throws: the sentence that says what is wrong.
  public init(_ text: String) throws(AddressError) {
    guard let colon = text.firstIndex(of: ":") else { throw AddressError(text, Self.shapes) }
    let rest = String(text[text.index(after: colon)...])
    guard !rest.isEmpty else { throw AddressError(text, "nothing follows the colon") }
    switch text[..<colon] {
    case "unix":
      guard rest.utf8.count <= Self.unixPathByteCountMax else {
        throw AddressError(
          text, "a socket's path has at most \(Self.unixPathByteCountMax) bytes")
      }
      self = .unix(path: rest)
    case "tcp":
      guard let last = rest.lastIndex(of: ":"), let port = UInt16(rest[rest.index(after: last)...])
      else { throw AddressError(text, "a TCP address is tcp:HOST:PORT") }
      var host = String(rest[..<last])
      if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
      guard !host.isEmpty else { throw AddressError(text, "the host is missing") }
      self = .tcp(host: host, port: port)
    case "fd":
      guard let number = Int32(rest), number >= 0 else {
        throw AddressError(text, "a file descriptor is a number from 0")
      }
      self = .descriptor(number)
    case "file": self = .file(path: rest)
    default: throw AddressError(text, Self.shapes)
    }
  }

  /// Somebody waits there and can be reached a second time. A file is written once, and an open
  /// descriptor goes with its channel.
  public var canConnectAgain: Bool {
    switch self {
    case .unix, .tcp: true
    case .descriptor, .file: false
    }
  }

  /// Bytes do not leave this machine: a file, a Unix socket, a loopback address. Of names only
  /// `localhost` is taken for one, and what a descriptor leads to is not known.
  public var staysOnThisMachine: Bool {
    switch self {
    case .unix, .file: true
    case .descriptor: false
    case .tcp(let host, _):
      host == "localhost" || host == "::1"
        || host.wholeMatch(of: /127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}/) != nil
    }
  }

  /// `sun_path` less its closing zero.
  static let unixPathByteCountMax = 107
  private static let shapes = "an address is unix:PATH, tcp:HOST:PORT, fd:N or file:PATH"

  public var description: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let host, let port):
      host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
    case .descriptor(let number): "fd:\(number)"
    case .file(let path): "file:\(path)"
    }
  }
}

/// A text is no address.
public struct AddressError: Error, Hashable, Sendable, CustomStringConvertible {
  public let text: String
  public let reason: String

  init(_ text: String, _ reason: String) {
    self.text = text
    self.reason = reason
  }

  public var description: String { "\"\(text)\" is no address: \(reason)" }
}
