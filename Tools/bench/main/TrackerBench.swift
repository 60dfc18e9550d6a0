#if canImport(DirtyTracker)
  import Addressing
  import DMAContainer
  import DirtyTracker
  import EventTrace
  import GuestDirtyLog
  import IOVAMapping
  import PageBitmap

  /// Map and unmap through the whole tracker, recorded, into a container that does nothing, against
  /// the same on a table of its own.
  enum TrackerBench {
    static let name = "map + unmap through the tracker, 64 Ki scattered"
    static let peer = "bare table"

    static var section: Section {
      Section(name: "tracker", rows: [Row(name: name, peer: peer, target: 2)]) {
        recorder, effort in
        let workload = Workload(mappingCount: effort.size(64 << 10, quick: 4 << 10), seed: 11)
        let log = GuestDirtyLog()
        // Full after the first round, as it is in a guest that has run for a minute.
        let record = EventRecord(eventCountMax: workload.mappings.count)
        let tracker = DirtyTracker(log: log, record: record)
        tracker.begin()
        try tracker.regionAdded(
          RAMRegion(name: "ram", gpa: AddressRange(first: GPA(0), last: GPA((1 << 36) - 1))))
        try tracker.commit()
        let id = try tracker.addContainer(BenchContainer(), addressSpace: .remapped)
        var table = MappingTable()
        // A round first that is not timed: afterwards neither side meets memory for the first time.
        try mapAndUnmap(workload, tracker, id)
        try mapAndUnmap(workload, &table)
        for _ in 0..<effort.repetitions {
          try recorder.time(name) { try mapAndUnmap(workload, tracker, id) }
          precondition(tracker.mappings(of: id).isEmpty, "everything was unmapped")
          try recorder.time(name, peer) { try mapAndUnmap(workload, &table) }
          precondition(table.count == 0, "everything was unmapped")
        }
      }
    }

    private static func mapAndUnmap(
      _ workload: Workload, _ tracker: DirtyTracker, _ id: ContainerID
    ) throws {
      for mapping in workload.mappings {
        try tracker.iommuMap(
          id, mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions)
      }
      for mapping in workload.removals { try tracker.iommuUnmap(id, mapping.iova) }
    }

    private static func mapAndUnmap(_ workload: Workload, _ table: inout MappingTable) throws {
      for mapping in workload.mappings {
        try table.map(mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions)
      }
      for mapping in workload.removals { try table.unmap(mapping.iova) }
    }
  }
#endif
