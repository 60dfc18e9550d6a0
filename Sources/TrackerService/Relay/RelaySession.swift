import Addressing
import DMAContainer
import DeviceMigration
import DirtyTracker
import GuestDirtyLog
import IOVAMapping
import Locking
import VFIOUser
import VhostUser

/// One connection of the VMM to a device, with the device's server behind it.
///
///     VMM ── VFIOUserServer ── RelayDevice ── DirtyTracker ── VFIOUserContainer ── server
///                                   └── all that is no DMA, as it is ──────────────┘
///
/// Terms:
/// - **Quiet**: the device writes nothing. By its migration states where its server has them; by
///   leaving its DMA messages unanswered; or by taking its mappings away, with their dirt.
/// - **Own memory**: what the VMM maps without a file: video memory for one. The server gets it as
///   it came, and DMA goes on to the VMM.
///
/// Invariants:
/// 1. From the return of `quiet` to `resume` the device writes no guest memory.
/// 2. What the VMM maps while the device is quiet it gets when it runs again; what the VMM unmaps
///    meanwhile it does not get.
///
/// States:
///
///     running ── quiet ──> quiet ── resume ──> running
///        └── failed: refused, runs on
final class RelaySession: Sendable {
  enum Quieting: Hashable, Sendable {
    case states
    case heldMessages
    case takenMappings
  }

  private struct State: Sendable {
    var isQuiet = false
    /// What the device gets when it runs again.
    var awaiting: [UInt64: Mapping] = [:]
    /// First and size of what is mapped without a file.
    var ownMemory: [UInt64: UInt64] = [:]
  }

  let name: String
  let course: VMCourse
  let client: VFIOUserClient
  let way: RelayWay
  let container: ContainerID
  let quieting: Quieting
  private let backend: RelayContainer
  private let migration: VFIOUserMigration?
  /// Set once; the client holds it weakly.
  private let dma = Mutex<RelayDMA?>(nil)
  private let state = Mutex(State())
  /// Held over one map or unmap, and over all of a stop and a resume: what comes while the device
  /// is made quiet finds it quiet. vCPUs stand then.
  private let order = Mutex(())
  private let knownFiles = Mutex<Set<FileIdentity>>([])

  /// Asks the server what it can do, and has the tracker follow it.
  init(
    _ configuration: DeviceConfiguration, _ client: VFIOUserClient, _ course: VMCourse
  ) throws(VFIOUserError) {
    name = configuration.name
    self.course = course
    self.client = client
    way = try RelayWay.find(configuration.way, of: client)
    backend = RelayContainer(
      try VFIOUserContainer(
        name: name, client: client, givesFiles: way != .messages, hasLog: way == .log,
        memory: course.files), client)
    let migration = VFIOUserMigration(client: client)
    var features: MigrationFeatures = []
    do throws(DeviceError) { features = try migration.migrationFeatures() } catch {
      if let end = client.end { throw end }
    }
    self.migration = features.contains(.stopCopy) ? migration : nil
    quieting =
      way == .messages ? .heldMessages : self.migration == nil ? .takenMappings : .states
    do throws(TrackerError) {
      container = try course.tracker.addContainer(backend, addressSpace: .remapped)
    } catch {
      throw VFIOUserError(.limit, object: name, operation: "attach", detail: "\(error)")
    }
  }

  /// Who DMA goes on to that is not carried out here.
  func passDMA(to server: VFIOUserServer?) {
    dma.withLock { dma in
      let handler = dma ?? RelayDMA(self, backend.inside)
      handler.passOn(to: server)
      client.serveDMA(by: handler)
      // The handler holds this session.
      dma = server == nil ? nil : handler
    }
  }

  /// Takes the VMM's answers to what went on to it, until DMA goes on to nobody. For a thread of
  /// its own.
  func takeAnswers() { dma.withLock { $0 }?.takeAnswers() }

  /// The VMM has gone, or the server.
  func end() {
    client.shutDown()
    do throws(TrackerError) { try course.tracker.removeContainer(container) } catch {
      // Its server is gone, and what it had mapped counts as written by that.
      course.say(.debug, "\(error)")
    }
  }

  // MARK: mappings

  func map(_ region: DMARegion) throws(VFIOUserError) {
    try order.withLock { (_: inout sending Void) throws(VFIOUserError) in
      try mapInOrder(region)
    }
  }

  private func mapInOrder(_ region: DMARegion) throws(VFIOUserError) {
    guard case .file(let descriptor, let offset, let access) = region.memory else {
      return try mapOwn(region)
    }
    let file: GuestFiles.File
    let place: GPA
    do throws(ServiceError) {
      (file, place) = try course.files.enter(
        descriptor, offset: offset, byteCount: region.iova.lastOffset + 1
      ) { (added) throws(ServiceError) in
        do throws(TrackerError) { try course.tracker.regionAdded(added) } catch {
          throw .memoryRefused("\(error)")
        }
      }
    } catch {
      throw refused("DMA_MAP", 12, "\(error)")
    }
    let isNew = knownFiles.withLock { $0.insert(file.identity).inserted }
    if isNew, way != .messages {
      backend.inside.addFile(
        VFIOUserMemoryFile(gpa: file.room, descriptor: file.descriptor, access: access))
    }
    let mapping = Mapping(
      iova: region.iova, gpaFirst: place, permissions: region.permissions)
    do throws(VFIOUserError) {
      if !postpone(mapping) { try mapNow(mapping) }
    } catch {
      course.files.leave(place)
      throw error
    }
  }

  /// - Returns: false when the device is running, or may be given mappings while it is quiet.
  private func postpone(_ mapping: Mapping) -> Bool {
    state.withLock { state in
      guard state.isQuiet, quieting != .heldMessages else { return false }
      state.awaiting[mapping.iova.first.rawValue] = mapping
      return true
    }
  }

  private func mapNow(_ mapping: Mapping) throws(VFIOUserError) {
    do throws(TrackerError) {
      try course.tracker.iommuMap(
        container, mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions)
    } catch {
      throw refused("DMA_MAP", error)
    }
  }

  private func mapOwn(_ region: DMARegion) throws(VFIOUserError) {
    _ = try client.request(
      .mapDMA(DMAMapMessage(iova: region.iova, permissions: region.permissions)))
    state.withLock {
      $0.ownMemory[region.iova.first.rawValue] = region.iova.lastOffset
    }
  }

  func unmap(_ region: DMARegion) throws(VFIOUserError) {
    try order.withLock { (_: inout sending Void) throws(VFIOUserError) in
      try unmapInOrder(region)
    }
  }

  private func unmapInOrder(_ region: DMARegion) throws(VFIOUserError) {
    let first = region.iova.first.rawValue
    if state.withLock({ $0.ownMemory[first] != nil }) {
      _ = try client.request(
        .unmapDMA(DMAUnmapMessage(first: first, size: region.iova.lastOffset + 1)))
      _ = state.withLock { $0.ownMemory.removeValue(forKey: first) }
      return
    }
    if let mapping = state.withLock({ $0.awaiting.removeValue(forKey: first) }) {
      return course.files.leave(mapping.gpaFirst)
    }
    let place = course.tracker.lookup(container, region.iova.first)?.gpaFirst
    do throws(TrackerError) { try course.tracker.iommuUnmap(container, region.iova) } catch {
      throw refused("DMA_UNMAP", error)
    }
    if let place { course.files.leave(place) }
  }

  /// Whether a byte there is memory without a file.
  func isOwnMemory(_ iova: IOVA) -> Bool {
    state.withLock { state in
      state.ownMemory.contains { first, lastOffset in
        iova.rawValue >= first && iova.rawValue - first <= lastOffset
      }
    }
  }

  /// Nothing is mapped of it any more.
  func forget(_ file: GuestFiles.File) {
    _ = knownFiles.withLock { $0.remove(file.identity) }
    backend.inside.removeFile(at: file.first)
  }

  // MARK: stop

  /// - Throws: `stopRefused` where the device may be writing still. It runs on.
  func quiet() throws(VhostUserError) {
    try order.withLock { (_: inout sending Void) throws(VhostUserError) in try quietInOrder() }
  }

  private func quietInOrder() throws(VhostUserError) {
    if state.withLock({ $0.isQuiet }) { return }
    // A server that is gone writes nothing by message; and one that closed its connection has
    // ended, for all that can be known.
    if let end = client.end {
      guard end.reason == .timedOut, way != .messages else { return }
      throw .stopRefused("\(end); it may write still")
    }
    switch quieting {
    case .heldMessages: client.holdDMA()
    case .states:
      do throws(DeviceError) { _ = try migration?.setState(.stop) } catch {
        throw .stopRefused("\(error)")
      }
    case .takenMappings: try takeMappings()
    }
    state.withLock { $0.isQuiet = true }
  }

  private func takeMappings() throws(VhostUserError) {
    let mappings = course.tracker.mappings(of: container)
    state.withLock { state in
      for mapping in mappings { state.awaiting[mapping.iova.first.rawValue] = mapping }
    }
    do throws(TrackerError) { try course.tracker.iommuUnmap(container, .wholeSpace) } catch {
      let left = Set(course.tracker.mappings(of: container).map(\.iova.first))
      giveBack { left.contains($0.iova.first) }
      if client.end?.reason == .connectionLost { return }
      throw .stopRefused("\(error)")
    }
  }

  func resume() { order.withLock { _ in resumeInOrder() } }

  private func resumeInOrder() {
    let wasQuiet = state.withLock { state in
      defer { state.isQuiet = false }
      return state.isQuiet
    }
    guard wasQuiet, client.end == nil else { return }
    do throws(DeviceError) {
      if quieting == .states { _ = try migration?.setState(.running) }
    } catch {
      course.say(.error, "device \(name) does not run again: \(error)")
    }
    giveBack { _ in false }
    if quieting == .heldMessages { client.releaseDMA() }
  }

  /// Maps what waits for the device, but for what it still has.
  private func giveBack(_ isThere: (Mapping) -> Bool) {
    let awaiting = state.withLock { state in
      defer { state.awaiting = [:] }
      return state.awaiting
    }
    for mapping in awaiting.values.sorted(by: { $0.iova.first < $1.iova.first })
    where !isThere(mapping) {
      do throws(VFIOUserError) { try mapNow(mapping) } catch {
        course.files.leave(mapping.gpaFirst)
        course.say(.error, "device \(name) has lost a mapping over a stop: \(error)")
      }
    }
  }

  // MARK: errors

  private func refused(_ operation: String, _ errno: Int32, _ detail: String) -> VFIOUserError {
    VFIOUserError(.refused, object: name, operation: operation, errno: errno, detail: detail)
  }

  private func refused(_ operation: String, _ error: TrackerError) -> VFIOUserError {
    let errno: Int32 =
      switch error {
      case .mapFailed(let error), .unmapFailed(let error), .keptPartLost(_, let error),
        .mapNotTakenBack(_, let error, _), .remapFailed(_, let error):
        error.errno
      case .outOfMemory, .log: 12
      default: 22
      }
    course.say(.warning, "\(error)")
    return refused(operation, errno == 0 ? 5 : errno, "\(error)")
  }
}
