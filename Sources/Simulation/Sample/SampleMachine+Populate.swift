import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog

extension SampleMachine {
  /// The containers that the roster's devices need, and the devices.
  static func populate(
    _ options: SampleOptions, _ ram: GuestRAM, _ tracker: DirtyTracker
  ) throws(TrackerError) -> (containers: [SampleContainer], devices: [SampleDevice]) {
    let models = (0..<options.deviceCount).map(SampleModel.model)
    var containers: [SampleContainer] = []
    var devices: [SampleDevice] = []
    for kind in SampleContainer.Kind.allCases {
      let own = models.indices.filter { models[$0].container == kind }
      guard !own.isEmpty else { continue }
      let names = own.map { models[$0].name($0) }
      let (backend, ports) = backend(kind, names, ram, options.containerFaults)
      let id = try tracker.addContainer(backend, addressSpace: .remapped)
      let listener = SampleListener(tracker: tracker, id: id)
      let container = SampleContainer(
        kind: kind, id: id, backend: backend, listener: listener, options: options,
        layout: ram.layout)
      for (place, index) in own.enumerated() {
        let hardware = models[index].hardware(names[place], options)
        let picker = SampleBuffers(
          container.driver.buffers, seed: options.seed &+ UInt64(index) &* 0x9e37)
        let traffic = DMATraffic(
          device: hardware.device, deviceNumber: UInt32(index), port: ports[place],
          seed: options.seed ^ UInt64(index) << 8, pinnedRangeCountMax: 512
        ) { picker.next() }
        if kind == .pinned { listener.beforeUnmap { traffic.unmapped($0) } }
        devices.append(
          SampleDevice(
            name: names[place], container: kind, hardware: hardware.device,
            migratable: hardware.migratable, configuration: hardware.configuration,
            traffic: traffic, writesPerSecond: options.deviceWritesPerSecond))
      }
      containers.append(container)
    }
    return (containers, devices)
  }

  private static func backend(
    _ kind: SampleContainer.Kind, _ names: [String], _ ram: GuestRAM,
    _ faults: FaultPlan?
  ) -> (any DMAContainer, [any DMAPort]) {
    switch kind {
    case .hardware:
      let container = SimulatedIOMMUFD(name: "iommufd0", memory: ram, faults: faults)
      // Two page tables on one IOAS: both have to be asked.
      let tables = names.map { container.allocateHWPT("hwpt-\($0)") }
      return (
        container, zip(names, tables).map { container.attachDevice($0, to: $1) }
      )
    case .pinned:
      let container = SimulatedType1(name: "type1-mdev", memory: ram, faults: faults)
      return (
        container,
        names.map { MediatedPort(container.attachMediatedDevice($0, pinsOnDemand: false)) }
      )
    case .deviceLog:
      let container = SimulatedType1(name: "type1-log", memory: ram, faults: faults)
      return (
        container,
        names.map { name in
          let log = SimulatedDeviceLog(
            name: "log-\(name)", rangeCountMax: 8, ignoresSecondStart: true, faults: faults)
          return container.attachDevice(name, log: log)
        }
      )
    }
  }
}
