import Addressing
import VFIOUser

/// How it is known what a device wrote, for as long as a session lasts.
enum RelayWay: String, Hashable, Sendable {
  /// Its server logs it.
  case log
  /// Its server has no descriptor of guest memory: what it writes is written here.
  case messages
  /// Its server writes by itself and keeps no log: all it may write counts as written.
  case everything

  var sentence: String {
    switch self {
    case .log: "logs what it writes"
    case .messages: "writes by message, which is marked"
    case .everything: "keeps no log: all it has mapped is sent once more when the VM stops"
    }
  }

  /// Asks the server. One that logs is asked for its log; one that takes memory without a
  /// descriptor gets it so.
  static func find(
    _ wanted: DeviceWay, of client: VFIOUserClient
  ) throws(VFIOUserError) -> RelayWay {
    switch wanted {
    case .everything: return .everything
    case .messages: return .messages
    case .log:
      guard try VFIOUserContainer.hasLog(client) else {
        throw VFIOUserError(
          .refused, object: client.name, operation: "DMA_LOGGING_START",
          detail: "its way is to be log, and the server does not log what it writes")
      }
      return .log
    case .automatic:
      if try VFIOUserContainer.hasLog(client) { return .log }
      return try takesMemoryWithoutFile(client) ? .messages : .everything
    }
  }

  /// Maps a page that no guest uses, and takes it back.
  private static func takesMemoryWithoutFile(
    _ client: VFIOUserClient
  ) throws(VFIOUserError) -> Bool {
    let page = IOVARange(first: IOVA(1 << 62), last: IOVA((1 << 62) + 4095))
    do throws(VFIOUserError) {
      _ = try client.request(.mapDMA(DMAMapMessage(iova: page, permissions: .readWrite)))
    } catch {
      guard error.reason == .refused else { throw error }
      return false
    }
    _ = try client.request(
      .unmapDMA(DMAUnmapMessage(first: page.first.rawValue, size: page.lastOffset + 1)))
    return true
  }
}
