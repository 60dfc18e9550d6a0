import CSmudgeLinux

/// Capabilities that follow an information structure (`struct vfio_info_cap_header`): each with an
/// id and the offset of the next, counted from the start of the structure.
///
/// Invariants:
/// 1. No byte outside what the kernel filled is looked at.
/// 2. Offsets rise, so a chain that bites its tail ends.
struct InformationChain {
  /// What is wrong with a chain, a clause.
  struct Damage: Error { let what: String }

  struct Capability {
    let id: Int
    /// Of its header, in the bytes.
    let offset: Int
  }

  static let headerByteCount = 8

  let bytes: [UInt8]
  let capabilities: [Capability]

  /// - Parameters:
  ///   - bytes: the structure and what follows it, as far as the kernel filled it.
  ///   - first: `cap_offset`; 0 for none.
  ///   - structureByteCount: where the earliest capability may lie.
  init(_ bytes: [UInt8], first: Int, structureByteCount: Int) throws(Damage) {
    var found: [Capability] = []
    var offset = first
    var lowest = structureByteCount
    while offset != 0 {
      guard offset >= lowest else {
        throw Damage(what: "a capability at \(offset) lies before \(lowest), where the last ends")
      }
      guard
        let header = RequestBytes.load(smudge_vfio_info_cap_header.self, from: bytes, at: offset)
      else {
        throw Damage(what: "a capability at \(offset) leaves the \(bytes.count) bytes")
      }
      found.append(Capability(id: Int(header.id), offset: offset))
      lowest = offset + Self.headerByteCount
      offset = Int(header.next)
    }
    self.bytes = bytes
    self.capabilities = found
  }

  /// The structure of the first capability of that id; nil when there is none.
  func load<Value: BitwiseCopyable>(
    _ id: Int, _ type: Value.Type
  ) throws(Damage) -> (value: Value, offset: Int)? {
    guard let capability = capabilities.first(where: { $0.id == id }) else { return nil }
    guard let value = RequestBytes.load(Value.self, from: bytes, at: capability.offset) else {
      throw Damage(what: "capability \(id) at \(capability.offset) is cut short")
    }
    return (value, capability.offset)
  }

  /// `count` structures from `offset` on.
  func loadArray<Value: BitwiseCopyable>(
    _ type: Value.Type, count: Int, at offset: Int
  ) throws(Damage) -> [Value] {
    let size = MemoryLayout<Value>.size
    guard count >= 0, offset <= bytes.count, count <= (bytes.count - offset) / size else {
      throw Damage(what: "\(count) entries at \(offset) leave the \(bytes.count) bytes")
    }
    return (0..<count).compactMap {
      RequestBytes.load(Value.self, from: bytes, at: offset + $0 * size)
    }
  }

  /// Asks for a structure whose first 32 bits are `argsz`, with more room as long as the kernel
  /// says it needs more. Returns what it filled.
  /// - Parameter prepare: fills in what the kernel reads, besides `argsz`.
  static func ask(
    _ descriptor: VFIODescriptor, _ request: VFIORequest, structureByteCount: Int, object: String,
    prepare: (inout [UInt8]) -> Void = { _ in }
  ) throws(VFIOError) -> [UInt8] {
    var room = max(structureByteCount, 1024)
    for _ in 0..<4 {
      var bytes = [UInt8](repeating: 0, count: room)
      RequestBytes.store(UInt32(room), to: &bytes, at: 0)
      prepare(&bytes)
      let result = descriptor.control(request, bytes: &bytes)
      guard result >= 0 else {
        throw VFIOError(object: object, operation: "\(request)", errno: -result)
      }
      let needed = Int(RequestBytes.load(UInt32.self, from: bytes, at: 0) ?? 0)
      guard needed > room else {
        // What lies behind argsz was not written.
        return Array(bytes.prefix(max(structureByteCount, needed)))
      }
      guard needed <= byteCountMax else {
        throw VFIOError(
          object: object, operation: "\(request)", errno: 0,
          detail: "the kernel wants \(needed) bytes of room, more than \(byteCountMax)")
      }
      room = needed
    }
    throw VFIOError(
      object: object, operation: "\(request)", errno: 0,
      detail: "the kernel wants more room each time it is asked")
  }

  /// Far past any answer there is.
  static let byteCountMax = 1 << 20
}
