import DMAContainer
import DeviceMigration
import Locking
import VFIOUser

/// A server's device as the VMM gets it. What is no DMA goes through as it is, descriptors too.
final class RelayDevice: VFIOUserDevice {
  let name: String
  let information: DeviceInformation
  private let session: RelaySession
  private var client: VFIOUserClient { session.client }

  init(_ session: RelaySession) throws(VFIOUserError) {
    self.session = session
    name = session.name
    information = try session.client.deviceInformation()
  }

  /// The VMM is not to drive log and states: stock QEMU does not, and they are used here.
  var dirtyLog: (any DirtyLog)? { nil }
  var migration: (any VFIOMigrationV2)? { nil }

  func received(_ command: VFIOUserCommand, isAwaited: Bool) {
    guard isAwaited else { return }
    switch command {
    case .regionRead, .regionWrite, .regionWriteMulti: session.course.sawAccess()
    default: break
    }
  }

  /// The error of a question whose answer has no place for one.
  private func asked<T>(_ body: () throws(VFIOUserError) -> T) -> T? {
    do throws(VFIOUserError) { return try body() } catch {
      session.course.say(.warning, "\(error)")
      return nil
    }
  }

  func region(
    _ index: UInt32
  ) -> (information: RegionInformation, descriptor: VFIOUser.OwnedDescriptor?)? {
    asked { () throws(VFIOUserError) in try client.regionInformation(index) }
  }

  func ioDescriptors(
    _ region: UInt32
  ) -> (entries: [RegionIODescriptor], [OwnedDescriptor])? {
    let room = UInt32(clamping: client.dataByteCountMax)
    let request = VFIOUserRequest.regionIODescriptors(index: region, argsz: room)
    // Most servers have none and say so with an error.
    guard let (reply, descriptors) = try? client.request(request),
      case .regionIODescriptors(_, let entries, _) = reply
    else { return nil }
    return (entries, descriptors)
  }

  func readRegion(_ access: RegionAccess) throws(VFIOUserError) -> [UInt8] {
    try client.readRegion(access)
  }

  func writeRegion(_ access: RegionAccess, _ data: [UInt8]) throws(VFIOUserError) {
    try client.writeRegion(access.region, offset: access.offset, data)
  }

  func irq(_ index: UInt32) -> IRQInformation? {
    asked { () throws(VFIOUserError) in try client.irqInformation(index) }
  }

  func setIRQs(
    _ message: SetIRQsMessage, descriptors: [OwnedDescriptor]
  ) throws(VFIOUserError) {
    try client.setIRQs(message, descriptors: descriptors)
  }

  func reset() throws(VFIOUserError) { try client.reset() }
  func map(_ region: DMARegion) throws(VFIOUserError) { try session.map(region) }
  func unmap(_ region: DMARegion) throws(VFIOUserError) { try session.unmap(region) }
  func clientLeft() {}
}
