import Locking
import VhostUser

/// What smudged runs for one VM: its companion, its devices, and the syncs while it migrates.
///
/// Example:
///
///     let service = try VMService(configuration) { level, text in … }
///     // QEMU may be started
///     service.end()
public final class VMService: Sendable {
  public let configuration: VMConfiguration
  private let course: VMCourse
  private let relays: [DeviceRelay]
  private let ticker: Ticker

  /// Everything listens when it returns.
  /// - Throws: nothing listens then.
  public init(_ configuration: VMConfiguration, say: @escaping ServiceSay) throws(ServiceError) {
    self.configuration = configuration
    let course = VMCourse(
      deviceNames: configuration.devices.map(\.name), isStrict: configuration.isStrict,
      omissions: configuration.omissions, say: say)
    self.course = course
    try course.listen(at: configuration.companion)
    var relays: [DeviceRelay] = []
    do throws(ServiceError) {
      for device in configuration.devices { relays.append(try DeviceRelay(device, course)) }
      let period =
        configuration.omissions.contains(.lateLookup) ? 200 : configuration.syncPeriodMilliseconds
      ticker = try Ticker(milliseconds: period) { course.tick() }
      for relay in relays { try relay.start() }
    } catch {
      for relay in relays { relay.end() }
      course.end()
      throw error
    }
    self.relays = relays
  }

  /// Closes every connection and socket, and waits until nothing runs any more.
  public func end() {
    course.end()
    for relay in relays { relay.end() }
    ticker.end()
  }
}
