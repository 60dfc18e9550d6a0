public import DMAContainer
public import DeviceMigration

/// A device that a server gives to a client.
///
/// The server calls it from the thread that serves, one call at a time, with no lock held: it may
/// do
/// DMA by message from inside a call. Errors it throws are answered with their errno, EIO for none.
public protocol VFIOUserDevice: AnyObject, Sendable {
  var name: String { get }
  var information: DeviceInformation { get }

  /// Nil: there is no such region. With it, the descriptor it may be mapped by.
  func region(_ index: UInt32) -> (information: RegionInformation, descriptor: OwnedDescriptor?)?

  /// Nil: there is none.
  func ioDescriptors(_ region: UInt32) -> (entries: [RegionIODescriptor], [OwnedDescriptor])?

  /// - Returns: at most as many bytes as were asked for.
  func readRegion(_ access: RegionAccess) throws(VFIOUserError) -> [UInt8]
  func writeRegion(_ access: RegionAccess, _ data: [UInt8]) throws(VFIOUserError)

  /// Nil: there are no such interrupts.
  func irq(_ index: UInt32) -> IRQInformation?

  /// - Parameter descriptors: as many as the message counts, or none to take the assigned ones
  /// away.
  func setIRQs(
    _ message: SetIRQsMessage, descriptors: [OwnedDescriptor]
  ) throws(VFIOUserError)

  /// Back to how it began, in RUNNING, whatever it was doing.
  func reset() throws(VFIOUserError)

  /// It may reach the region from now on. The region overlaps no other.
  func map(_ region: DMARegion) throws(VFIOUserError)

  /// It reaches the region no more: DMA under way has ended when this returns. After a throw it
  /// still may.
  func unmap(_ region: DMARegion) throws(VFIOUserError)

  /// How it knows what it wrote; nil: it does not. It answers after an unmap too
  /// (``DirtyLogCapabilities/isAskedAfterUnmap``), may be asked across holes and for parts of a
  /// mapping. What goes by message is not in it: the client wrote that.
  var dirtyLog: (any DirtyLog)? { get }

  /// Nil: it does not migrate.
  var migration: (any VFIOMigrationV2)? { get }

  /// A command is about to be carried out.
  /// - Parameter isAwaited: the client waits for its answer.
  func received(_ command: VFIOUserCommand, isAwaited: Bool)

  /// The client is gone: its memory was unmapped, its descriptors are forgotten from now on. State
  /// stays.
  func clientLeft()
}

extension VFIOUserDevice {
  public func received(_ command: VFIOUserCommand, isAwaited: Bool) {}

  public func ioDescriptors(
    _ region: UInt32
  ) -> (entries: [RegionIODescriptor], [OwnedDescriptor])? { nil }
}
