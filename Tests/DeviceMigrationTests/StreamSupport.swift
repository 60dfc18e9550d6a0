import DeviceMigration
import GuestDirtyLog
import TestSupport

/// Streams as bytes, taken apart into sections and put together again.
struct RecordedStream {
  var start: [UInt8]
  var sections: [(header: StreamSection, payload: [UInt8])] = []

  /// - Precondition: a stream that this version wrote.
  init(_ bytes: [UInt8]) throws {
    start = Array(bytes[0..<StreamFormat.startByteCount])
    var offset = start.count
    while offset < bytes.count {
      let headerEnd = offset + StreamFormat.headerByteCount
      let header = try StreamSection.decode(
        Array(bytes[offset..<headerEnd]), expecting: UInt64(sections.count),
        offset: UInt64(offset))
      offset = headerEnd + header.payloadByteCount
      sections.append((header, Array(bytes[headerEnd..<offset])))
    }
  }

  /// - Parameter renumbering: sequences are made to fit again.
  func encoded(renumbering: Bool = true) -> [UInt8] {
    var bytes = start
    for (index, section) in sections.enumerated() {
      var header = section.header
      if renumbering { header.sequence = UInt64(index) }
      bytes += header.encoded() + section.payload
    }
    return bytes
  }

  /// Another payload, with the header that belongs to it.
  mutating func setPayload(_ payload: [UInt8], at index: Int) {
    sections[index].payload = payload
    sections[index].header.payloadByteCount = payload.count
    sections[index].header.payloadChecksum = StreamBytes.checksum(payload)
  }

  func index(of kind: StreamSectionKind) -> Int? {
    sections.firstIndex { $0.header.kind == kind }
  }
}

/// CRC32C bit by bit: the model of the fast ones.
enum StreamBytes {
  static func checksum(_ bytes: [UInt8]) -> UInt32 {
    var crc = UInt32.max
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
    }
    return ~crc
  }
}

/// What a destination made of some bytes.
struct StreamOutcome {
  let world: FrontEndWorld
  let error: MigrationError?

  var streamError: StreamError.Reason? {
    if case .stream(let error)? = error?.cause { error.reason } else { nil }
  }

  /// Not one byte outside RAM, the guest running only when nothing was refused, devices reset.
  var isSound: Bool {
    world.destinationMemory.canariesHold
      && world.destinationMachine.isRunning == (error == nil)
      && world.destinationDevices.allSatisfy { $0.state == .running }
  }
}

enum StreamScenario {
  /// The one-way stream of a small guest.
  static func bytes(deviceCount: Int = 4) throws -> [UInt8] {
    let world = FrontEndWorld(seed: 41, pageCount: 4, deviceCount: deviceCount)
    world.writesPerEvent = 0
    world.policy.notConverging = .stopAnyway(afterRounds: 1)
    for device in world.sourceDevices { device.lastDMA = nil }
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    _ = try world.source.run(over: link.source)
    return link.toDestination
  }

  static func load(_ bytes: [UInt8], deviceCount: Int = 4) -> StreamOutcome {
    let world = FrontEndWorld(seed: 41, pageCount: 4, deviceCount: deviceCount)
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    link.toDestination = bytes
    do throws(MigrationError) {
      _ = try world.destination.receive(from: link.destination)
      return StreamOutcome(world: world, error: nil)
    } catch {
      return StreamOutcome(world: world, error: error)
    }
  }
}
