import Addressing
import IOVAMapping
import Simulation
import Locking

/// A table as a listener, with a port through it: the least a driver and a device can work with.
final class WorkloadListener: IOMMUListener, DMAPort {
  struct State: ~Copyable {
    var table: MappingTable
    var isPassThrough = false
    var log: [IOMMUEvent] = []
    var refusesNext = false
  }
  let state: Mutex<State>
  let ram: GuestRAM?

  init(policy: BisectPolicy = .refuse, ram: GuestRAM? = nil) {
    state = Mutex(State(table: MappingTable(policy: policy)))
    self.ram = ram
  }

  func map(_ iova: IOVARange, to gpa: GPA, permissions: Permissions) throws(IOMMURefusal) {
    let event = IOMMUEvent.map(iova, gpa: gpa, permissions)
    try state.withLock { (state: inout State) throws(IOMMURefusal) in
      try Self.refuse(event, &state)
      do {
        try state.table.map(iova, to: gpa, permissions: permissions)
      } catch {
        throw IOMMURefusal(event: event, reason: "\(error)")
      }
    }
  }

  func unmap(_ iova: IOVARange) throws(IOMMURefusal) {
    let event = IOMMUEvent.unmap(iova)
    try state.withLock { (state: inout State) throws(IOMMURefusal) in
      try Self.refuse(event, &state)
      do {
        try state.table.unmap(iova)
      } catch {
        throw IOMMURefusal(event: event, reason: "\(error)")
      }
    }
  }

  func setPassThrough(_ isOn: Bool) throws(IOMMURefusal) {
    state.withLock { state in
      state.log.append(.passThrough(isOn))
      state.isPassThrough = isOn
    }
  }

  private static func refuse(_ event: IOMMUEvent, _ state: inout State) throws(IOMMURefusal) {
    guard !state.refusesNext else {
      state.refusesNext = false
      throw IOMMURefusal(event: event, reason: "told to refuse")
    }
    state.log.append(event)
  }

  func refuseNext() { state.withLock { $0.refusesNext = true } }
  var log: [IOMMUEvent] { state.withLock { $0.log } }

  /// First IOVAs of what is mapped writable.
  var writable: Set<IOVARange> {
    state.withLock { state in
      var found: Set<IOVARange> = []
      state.table.forEach(in: .wholeSpace) { if $0.isWritable { found.insert($0.iova) } }
      return found
    }
  }

  func write(_ bytes: RawSpan, at iova: IOVA) -> GPA? {
    state.withLock { state in
      let gpa: GPA
      if state.isPassThrough {
        gpa = GPA(iova.rawValue)
      } else if let mapping = state.table.lookup(iova), mapping.isWritable,
        let translated = mapping.translate(iova)
      {
        gpa = translated
      } else {
        return nil
      }
      return ram?.write(bytes, at: gpa) == true ? gpa : nil
    }
  }

  func read(into buffer: inout MutableRawSpan, at iova: IOVA) -> Bool { false }
}
