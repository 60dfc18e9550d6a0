public import CSmudge
import DeviceMigration
import DirtyTracker
import GuestDirtyLog
import VFIOKernel

/// The migration front-end. Unsafe because of the caller's structs; sound because `Parameters`
/// checks them.
@c @implementation
public func smudge_migrate(
  _ tracker: OpaquePointer?, _ params: UnsafePointer<smudge_migration_params>?,
  _ report: UnsafeMutablePointer<smudge_migration_report>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_migrate") { owner, tracker throws(Failure) in
    let params = unsafe try Parameters.load(params, smudge_migration_params(), "params")
    unsafe try Parameters.checkIfGiven(report, smudge_migration_report(), "report")
    let policy = unsafe try Migrations.policy(params)
    let parts = unsafe try Migrations.parts(params, tracker)
    try owner.migration.take()
    let source = MigrationSource(
      machine: parts.machine, tracking: tracker, memory: parts.memory,
      devices: parts.devices.map { MigratingDevice($0) }, policy: policy,
      clock: Trackers.monotonicNanoseconds, observer: parts.machine)
    parts.machine.cancellation = source.cancellation
    var failure: Failure?
    do throws(MigrationError) {
      _ = try source.run(over: parts.channel)
    } catch {
      failure = Failure(error)
    }
    owner.migration.put(
      source.isOutcomeUnknown ? MigrationSlot.Unresolved(source: source) : nil)
    let done = source.report
    unsafe try Migrations.put(
      report, rounds: done.rounds.count, bytes: done.streamBytes, total: done.totalNanoseconds,
      downtime: done.downtime.totalNanoseconds, notes: done.notes)
    if let failure { throw failure }
    return 0
  }
}

@c @implementation
public func smudge_migration_resolve(_ tracker: OpaquePointer?, _ runsThere: Int32) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_migration_resolve") { owner, _ throws(Failure) in
    guard let found = owner.migration.takeUnresolved() else {
      throw Failure(SMUDGE_ENOENT, "no migration is unresolved; nothing changed")
    }
    _ = found.source.resolve(destinationRuns: runsThere != 0)
    owner.migration.put(nil)
    return 0
  }
}

@c @implementation
public func smudge_receive(
  _ tracker: OpaquePointer?, _ params: UnsafePointer<smudge_migration_params>?,
  _ report: UnsafeMutablePointer<smudge_migration_report>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_receive") { owner, tracker throws(Failure) in
    let params = unsafe try Parameters.load(params, smudge_migration_params(), "params")
    unsafe try Parameters.checkIfGiven(report, smudge_migration_report(), "report")
    let parts = unsafe try Migrations.parts(params, tracker)
    try owner.migration.take()
    defer { owner.migration.put(nil) }
    let destination = MigrationDestination(
      machine: parts.machine, memory: parts.memory, regions: tracker.log.regions,
      devices: parts.devices, clock: Trackers.monotonicNanoseconds)
    let began = Trackers.monotonicNanoseconds()
    let done: DestinationReport
    do throws(MigrationError) {
      done = try destination.receive(from: parts.channel)
    } catch {
      throw Failure(error)
    }
    unsafe try Migrations.put(
      report, rounds: Int(clamping: done.roundCount), bytes: done.streamBytes,
      total: Trackers.monotonicNanoseconds() &- began, downtime: 0, notes: done.notes)
    return 0
  }
}

enum Migrations {
  struct Parts {
    let machine: CallbackMachine
    let channel: CallbackChannel
    let memory: RegionMemory
    let devices: [any MigratableDevice]
  }

  static func parts(
    _ params: smudge_migration_params, _ tracker: DirtyTracker
  ) throws(Failure) -> Parts {
    let channel = unsafe try Parameters.load(params.channel, smudge_channel(), "channel")
    let machine = unsafe try Parameters.load(params.machine, smudge_machine(), "machine")
    let memory = RegionMemory(tracker.log)
    if let region = memory.invisible {
      throw Failure(SMUDGE_EFAULT, "\(region) has no host address; nothing changed")
    }
    var devices: [any MigratableDevice] = []
    for device in unsafe try Containers.devices(params.devices, params.device_count) {
      guard let vfio = device.vfio else {
        throw .misuse("device \(device.name) has no descriptor")
      }
      do throws(DeviceError) {
        devices.append(try vfio.migratable(device.name))
      } catch {
        throw Failure(SMUDGE_EIO, "\(error); nothing changed")
      }
    }
    return unsafe Parts(
      machine: try CallbackMachine(machine, params), channel: try CallbackChannel(channel),
      memory: memory, devices: devices)
  }

  static func policy(_ params: smudge_migration_params) throws(Failure) -> MigrationPolicy {
    var policy = MigrationPolicy()
    let (limit, rounds) = unsafe (params.downtime_limit_nanoseconds, params.round_count_max)
    if limit != 0 { policy.downtimeLimitNanoseconds = limit }
    let roundCountMax = rounds == 0 ? 30 : Int(rounds)
    let onLimit = unsafe Int(params.on_limit)
    switch onLimit {
    case SMUDGE_ON_LIMIT_KEEP_GOING: policy.notConverging = .keepGoing
    case SMUDGE_ON_LIMIT_STOP_ANYWAY:
      policy.notConverging = .stopAnyway(afterRounds: roundCountMax)
    case SMUDGE_ON_LIMIT_GIVE_UP: policy.notConverging = .giveUp(afterRounds: roundCountMax)
    default: throw .misuse("on_limit is \(onLimit)")
    }
    return policy
  }

  static func put(
    _ report: UnsafeMutablePointer<smudge_migration_report>?, rounds: Int, bytes: UInt64,
    total: UInt64, downtime: UInt64, notes: [String]
  ) throws(Failure) {
    guard let report = unsafe report else { return }
    var filled = unsafe try Parameters.load(report, smudge_migration_report(), "report")
    unsafe filled.round_count = UInt32(clamping: rounds)
    unsafe filled.stream_byte_count = bytes
    unsafe filled.total_nanoseconds = total
    unsafe filled.downtime_nanoseconds = downtime
    unsafe Parameters.put(lines: notes, into: filled.notes, filled.notes_size)
    unsafe Parameters.store(filled, to: report)
  }
}
