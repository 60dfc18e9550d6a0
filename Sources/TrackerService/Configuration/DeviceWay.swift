/// How it is known what a device wrote.
public enum DeviceWay: String, Sendable, Hashable, CaseIterable {
  /// The best that the server can do, asked at attach.
  case automatic = "auto"
  /// The server keeps a DMA log.
  case log
  /// The server's DMA goes by message, and is carried out here.
  case messages
  /// Everything that is mapped writable counts as written in every round.
  case everything
}
