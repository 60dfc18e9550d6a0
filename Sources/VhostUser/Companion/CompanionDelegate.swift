/// What the owner of a companion is told. The companion's own thread calls, one call at a time and
/// with no lock held; the front-end waits for the answer to the message that caused the call until
/// it returns, and with it the guest.
public protocol CompanionDelegate: AnyObject, Sendable {
  /// A front-end has connected.
  func connected()

  /// The front-end logs from now on, and there is a log: what devices write is to be marked.
  /// - Parameter isLate: it may have been logging for a while, in which nothing was marked, since
  ///   the guest had not started this device. Everything mapped writable is then to be marked.
  func trackingStarts(isLate: Bool)

  /// Tracking goes on in a new, empty log. What was marked in the old one is the front-end's. What
  /// was refused a mark since (`noLog`) is to be marked now.
  func logReplaced()

  /// The front-end does not log any more.
  func trackingEnds()

  /// The VM stops, or its firmware or guest resets this device: nobody can tell. To return means
  /// that every device is quiet, its dirt collected and marked, and that it stays so until
  /// `runsAgain`, or until the owner itself sees a vCPU run, see ``Companion/noteAccess()``. Comes
  /// again for each ring, and when the devices are quiet already.
  /// - Throws: `VhostUserError.stopRefused`. The connection is closed. QEMU 11.1 fails the
  ///   migration then ("Failed to stop the VM"), and the VM and its devices run on. QEMU 7.2 only
  ///   says so on stderr and completes it, without reading the log once more: for such a VMM be
  ///   quiet, mark all of RAM, and return.
  func stop() throws(VhostUserError)

  /// The VM runs: the stop is over.
  func runsAgain()

  /// The RAM table has changed, see ``Companion/ram``. Memory that is gone from it is no longer the
  /// guest's once this returns.
  func ramChanged()

  /// No front-end is connected any more: the RAM table is empty, there is no log, and
  /// `trackingEnds` was called if tracking ran. A stop that was answered stays answered.
  func disconnected(_ reason: VhostUserError)
}
