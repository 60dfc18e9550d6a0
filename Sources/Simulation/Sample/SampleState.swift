import Addressing
import DeviceMigration

/// What a sample machine has besides RAM and devices: its vCPUs, and what its guest has mapped.
///
/// Shape, little-endian words of 64 bits: magic, vCPUs, then for each its byte count and bytes
/// padded to a word; containers, then for each the mapping count and for each mapping first, last,
/// GPA and permissions.
struct SampleState {
  static let magic: UInt64 = 0x3174_6174_7367_6d73

  private var vcpus: [[UInt8]] = []
  private var mappings: [[Mapping]] = []

  init(of machine: SampleMachine) {
    vcpus = machine.vcpus.map { $0.state.encoded() }
    mappings = machine.containers.map { $0.driver.mappings }
  }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    LittleEndian.append(Self.magic, to: &bytes)
    LittleEndian.append(UInt64(vcpus.count), to: &bytes)
    for state in vcpus {
      LittleEndian.append(UInt64(state.count), to: &bytes)
      bytes += state
      while bytes.count % 8 != 0 { bytes.append(0) }
    }
    LittleEndian.append(UInt64(mappings.count), to: &bytes)
    for own in mappings {
      LittleEndian.append(UInt64(own.count), to: &bytes)
      for mapping in own {
        LittleEndian.append(mapping.iova.first.rawValue, to: &bytes)
        LittleEndian.append(mapping.iova.last.rawValue, to: &bytes)
        LittleEndian.append(mapping.gpaFirst.rawValue, to: &bytes)
        LittleEndian.append(UInt64(mapping.permissions.rawValue), to: &bytes)
      }
    }
    return bytes
  }

  init(decoding bytes: [UInt8]) throws(MachineError) {
    var reader = Reader(bytes: bytes)
    guard try reader.word() == Self.magic else { throw Reader.damaged("it is not one") }
    for _ in 0..<(try reader.count(max: SampleOptions.vcpuCountMax)) {
      vcpus.append(try reader.bytes(try reader.count(max: 4096)))
    }
    for _ in 0..<(try reader.count(max: SampleContainer.Kind.allCases.count)) {
      var own: [Mapping] = []
      for _ in 0..<(try reader.count(max: Limits.mappingCountMax)) {
        own.append(try reader.mapping())
      }
      mappings.append(own)
    }
    guard reader.isAtEnd else { throw Reader.damaged("bytes follow its end") }
  }

  /// Maps what the guest had mapped, through the tracker, and gives the vCPUs their state.
  func restore(into machine: SampleMachine) throws(MachineError) {
    guard vcpus.count == machine.vcpus.count, mappings.count == machine.containers.count else {
      throw Reader.damaged("it is of a machine with other vCPUs or containers")
    }
    do {
      for (vcpu, state) in zip(machine.vcpus, vcpus) { try vcpu.restore(state) }
      for (container, own) in zip(machine.containers, mappings) {
        try container.driver.keep(own)
      }
    } catch {
      throw MachineError(operation: "restore the machine's state", detail: "\(error)")
    }
  }

  private struct Reader {
    let bytes: [UInt8]
    var offset = 0

    var isAtEnd: Bool { offset == bytes.count }

    static func damaged(_ why: String) -> MachineError {
      MachineError(operation: "read the machine's state", detail: why)
    }

    mutating func word() throws(MachineError) -> UInt64 {
      guard bytes.count - offset >= 8 else { throw Self.damaged("it ends early") }
      defer { offset += 8 }
      return LittleEndian.word(bytes, at: offset)
    }

    mutating func count(max: Int) throws(MachineError) -> Int {
      guard let count = Int(exactly: try word()), count <= max else {
        throw Self.damaged("a count is past its limit of \(max)")
      }
      return count
    }

    mutating func bytes(_ count: Int) throws(MachineError) -> [UInt8] {
      let padded = (count + 7) / 8 * 8
      guard bytes.count - offset >= padded else { throw Self.damaged("it ends early") }
      defer { offset += padded }
      return Array(bytes[offset..<(offset + count)])
    }

    mutating func mapping() throws(MachineError) -> Mapping {
      let first = IOVA(try word())
      let last = IOVA(try word())
      let gpa = GPA(try word())
      let permissions = Permissions(rawValue: UInt8(truncatingIfNeeded: try word()) & 3)
      guard first <= last, !permissions.isEmpty,
        gpa.advanced(byBytes: last.rawValue &- first.rawValue) != nil
      else { throw Self.damaged("a mapping makes no sense") }
      return Mapping(
        iova: AddressRange(first: first, last: last), gpaFirst: gpa, permissions: permissions)
    }
  }
}
