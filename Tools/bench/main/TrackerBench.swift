#if canImport(DirtyTracker)
  import Addressing
  import DMAContainer
  import DirtyTracker
  import EventTrace
  import GuestDirtyLog
  import IOVAMapping
  import PageBitmap

  /// Map and unmap through the whole tracker, into a container that does nothing, against the same
  /// on a table of its own; and what the record costs.
  enum TrackerBench {
    static let name = "map + unmap through the tracker, 64 Ki scattered"
    static let recordedName = "map + unmap with a record, 64 Ki scattered"
    static let peer = "bare table"
    static let unrecorded = "without a record"

    static var section: Section {
      Section(
        name: "tracker",
        rows: [
          Row(name: name, peer: peer, target: 1.4),
          Row(name: recordedName, peer: unrecorded, target: 1.15),
        ]
      ) { recorder, effort in
        let workload = Workload(mappingCount: effort.size(64 << 10, quick: 4 << 10), seed: 11)
        let plain = try Tracked()
        // Full after the first round, as it is in a guest that has run for a minute.
        let recorded = try Tracked(EventRecord(eventCountMax: workload.mappings.count))
        var table = MappingTable()
        // A round first that is not timed: afterwards no side meets memory for the first time.
        try plain.mapAndUnmap(workload)
        try recorded.mapAndUnmap(workload)
        try mapAndUnmap(workload, &table)
        for _ in 0..<effort.repetitions {
          try recorder.time(name, peer) { try mapAndUnmap(workload, &table) }
          precondition(table.count == 0, "everything was unmapped")
          let start = Clock.threadSeconds()
          try plain.mapAndUnmap(workload)
          let seconds = Clock.threadSeconds() - start
          recorder.record(name, value: seconds)
          recorder.record(recordedName, unrecorded, value: seconds)
          try recorder.time(recordedName) { try recorded.mapAndUnmap(workload) }
        }
      }
    }

    private static func mapAndUnmap(_ workload: Workload, _ table: inout MappingTable) throws {
      for mapping in workload.mappings {
        try table.map(mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions)
      }
      for mapping in workload.removals { try table.unmap(mapping.iova) }
    }
  }

  /// A tracker over one container that costs nothing.
  struct Tracked {
    private let tracker: DirtyTracker
    private let id: ContainerID
    private let ownership: ContainerOwnership

    init(_ record: EventRecord? = nil, ownership: ContainerOwnership = .tracker) throws {
      self.ownership = ownership
      tracker = DirtyTracker(log: GuestDirtyLog(), record: record)
      try tracker.begin()
      try tracker.regionAdded(
        RAMRegion(name: "ram", gpa: AddressRange(first: GPA(0), last: GPA((1 << 36) - 1))))
      try tracker.commit()
      id = try tracker.addContainer(
        BenchContainer(), ownership: ownership, addressSpace: .remapped)
    }

    func mapAndUnmap(_ workload: Workload) throws {
      for mapping in workload.mappings {
        try tracker.iommuMap(
          id, mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions)
      }
      for mapping in workload.removals {
        if ownership == .vmm {
          try tracker.iommuUnmapped(id, mapping.iova)
        } else {
          try tracker.iommuUnmap(id, mapping.iova)
        }
      }
      precondition(tracker.mappings(of: id).isEmpty, "everything was unmapped")
    }
  }
#endif
