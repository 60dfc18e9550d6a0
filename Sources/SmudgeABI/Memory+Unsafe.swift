import Addressing
public import CSmudge
import DirtyTracker
import GuestDirtyLog

/// The memory listener. Unsafe because of the caller's structs; sound because `Parameters` checks
/// them, and the host address of RAM is only handed on.
@c @implementation
public func smudge_begin(_ tracker: OpaquePointer?) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_begin") { _, tracker throws(Failure) in
    try Failure.of { () throws(TrackerError) in try tracker.begin() }
  }
}

@c @implementation
public func smudge_commit(_ tracker: OpaquePointer?) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_commit") { _, tracker throws(Failure) in
    try Failure.of { () throws(TrackerError) in try tracker.commit() }
  }
}

@c @implementation
public func smudge_region_add(
  _ tracker: OpaquePointer?, _ ram: UnsafePointer<smudge_ram>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_region_add") { _, tracker throws(Failure) in
    let ram = unsafe try Parameters.load(ram, smudge_ram(), "ram")
    let region = unsafe try Regions.region(ram)
    return try Failure.of { () throws(TrackerError) in try tracker.regionAdded(region) }
  }
}

@c @implementation
public func smudge_region_remove(
  _ tracker: OpaquePointer?, _ gpa: UInt64, _ byteCount: UInt64
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_region_remove") { _, tracker throws(Failure) in
    let range: GPARange = try Parameters.range(gpa, byteCount, "the region")
    guard let region = tracker.log.region(holding: range.first) else {
      throw Failure(SMUDGE_ENOENT, "no RAM region holds GPA \(range.first); nothing changed")
    }
    let wanted = RAMRegion(
      name: region.name, gpa: range, hvaFirst: region.hvaFirst, node: region.node,
      isReadOnly: region.isReadOnly)
    return try Failure.of { () throws(TrackerError) in try tracker.regionRemoved(wanted) }
  }
}

@c @implementation
public func smudge_ram_discard(
  _ tracker: OpaquePointer?, _ gpa: UInt64, _ byteCount: UInt64
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_ram_discard") { _, tracker throws(Failure) in
    let range: GPARange = try Parameters.range(gpa, byteCount, "the range")
    return try Failure.of { () throws(TrackerError) in try tracker.ramDiscarded(range) }
  }
}

@c @implementation
public func smudge_ram_populate(
  _ tracker: OpaquePointer?, _ gpa: UInt64, _ byteCount: UInt64
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_ram_populate") { _, tracker throws(Failure) in
    let range: GPARange = try Parameters.range(gpa, byteCount, "the range")
    return try Failure.of { () throws(TrackerError) in try tracker.ramPopulated(range) }
  }
}

enum Regions {
  static func region(_ ram: smudge_ram) throws(Failure) -> RAMRegion {
    let (flags, first, byteCount) = unsafe (ram.flags, ram.gpa, ram.byte_count)
    try Parameters.flags(flags, known: SMUDGE_RAM_READ_ONLY, "flags")
    let name = unsafe try Parameters.string(ram.name, "name")
    let range: GPARange = try Parameters.range(first, byteCount, "RAM \(name)")
    let host = unsafe ram.host.map { HVA(UInt64(UInt(bitPattern: $0))) }
    if let host, host.advanced(byBytes: range.lastOffset) == nil {
      throw .misuse("RAM \(name) of \(byteCount) bytes runs past the host address 2^64-1")
    }
    let node = unsafe ram.node_plus_one
    guard node <= UInt32(Limits.numaNodeCountMax) else {
      throw .misuse("node_plus_one \(node) is past \(Limits.numaNodeCountMax)")
    }
    return RAMRegion(
      name: name, gpa: range, hvaFirst: host, node: node == 0 ? nil : Int(node) - 1,
      isReadOnly: flags & UInt32(SMUDGE_RAM_READ_ONLY) != 0)
  }
}

extension Failure {
  /// - Returns: 0.
  @inline(__always) static func of(_ body: () throws(TrackerError) -> Void) throws(Failure) -> Int32
  {
    do throws(TrackerError) { try body() } catch { throw Failure(error) }
    return 0
  }
}
