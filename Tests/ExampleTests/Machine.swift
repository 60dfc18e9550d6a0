import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog

/// What a VMM adds: one tracker, told of its RAM, of its vIOMMU and of its migration.
final class Machine {
  let log = GuestDirtyLog()
  let tracker: DirtyTracker
  let nic: ContainerID

  init(ram: RAMRegion, container: any DMAContainer) throws(TrackerError) {
    tracker = DirtyTracker(log: log)
    try tracker.regionAdded(ram)
    nic = try tracker.addContainer(container, addressSpace: .remapped)
  }

  /// From the vIOMMU. The tracker commands the container, and keeps the table.
  func guestMaps(_ iova: IOVARange, to gpa: GPA) throws(TrackerError) {
    try tracker.iommuMap(nic, iova, to: gpa, permissions: .readWrite)
  }

  /// When this returns, what the device wrote there is in the log, by the page it meant.
  func guestUnmaps(_ iova: IOVARange) throws(TrackerError) { try tracker.iommuUnmap(nic, iova) }

  func beginMigration() throws(GuestDirtyLogError) -> ConsumerID {
    let reader = try tracker.log.addConsumer("migration", startsDirty: true)
    for note in tracker.startTracking().notes { print(note) }
    return reader
  }

  /// Once a round, and a last time, `isFinal`, when vCPUs and devices have stopped.
  /// - Parameter send: false when the pages did not all arrive.
  func sendRound(_ reader: ConsumerID, isFinal: Bool, send: ([GPARange]) -> Bool) -> Bool {
    for note in tracker.sync(isFinal: isFinal).notes { print(note) }
    while true {
      let harvest = tracker.log.harvest(for: reader, pageCountMax: 4096, runCountMax: 1024)
      if harvest.pageCount == 0 { return true }
      guard send(harvest.runs) else {
        tracker.log.putBack(harvest)
        return false
      }
      tracker.log.delivered(harvest)
    }
  }
}
