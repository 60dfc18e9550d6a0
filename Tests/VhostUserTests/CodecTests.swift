import TestSupport
import Testing

@testable import VhostUser

/// Bytes to messages and back, without a socket.
@Suite struct CodecTests {
  /// What a reader does with a whole message in memory.
  static func decode(_ bytes: [UInt8], descriptorCount: Int) throws(VhostUserError)
    -> FrontEndMessage
  {
    let header = MessageHeader(bytes)
    let request = try header.checkedRequest()
    // A reader takes as many bytes as the header says, and waits for them.
    guard bytes.count == 12 + Int(header.payloadByteCount) else {
      throw .cutMessage(byteCount: bytes.count)
    }
    return try FrontEndMessage(
      request, payload: Array(bytes.dropFirst(CompanionLimits.headerByteCount)),
      descriptorCount: descriptorCount)
  }

  private static func error(_ bytes: [UInt8], descriptorCount: Int = 0) -> VhostUserError? {
    do throws(VhostUserError) {
      _ = try decode(bytes, descriptorCount: descriptorCount)
      return nil
    } catch {
      return error
    }
  }

  @Test func `random messages of every kind come back as they were`() throws {
    let seed = TestSeed.seed(default: 0x6d65)
    var random = SeededGenerator(seed: seed)
    for request in FrontEndRequest.allCases {
      for _ in 0..<50 {
        let message = random.message(request)
        let needsReply = random.once(in: 2)
        let bytes = message.bytes(needsReply: needsReply)
        let header = MessageHeader(bytes)
        #expect(header.needsReply == needsReply)
        #expect(bytes.count == 12 + Int(header.payloadByteCount))
        #expect(bytes.count <= 12 + CompanionLimits.payloadByteCountMax)
        for count in [message.descriptorCounts.lowerBound, message.descriptorCounts.upperBound] {
          let back = try Self.decode(bytes, descriptorCount: count)
          #expect(back == message, "\(TestSeed.reproduce(seed, filter: "CodecTests"))")
        }
        let surplus = message.descriptorCounts.upperBound + 1
        #expect(
          Self.error(bytes, descriptorCount: surplus)
            == .badDescriptorCount(
              request, count: surplus, wanted: message.descriptorCounts.upperBound))
      }
    }
  }

  /// Each byte gets several other values. What is accepted must say what it was given: encoded
  /// again it is the same bytes, except for those that mean nothing.
  @Test func `a message with any byte changed is refused by name, or is another message`() {
    var random = SeededGenerator(seed: TestSeed.seed(default: 0x6d75))
    var (refused, accepted) = (0, 0)
    for request in FrontEndRequest.allCases {
      let message = random.message(request)
      let count = message.descriptorCounts.upperBound
      let bytes = message.bytes()
      for index in bytes.indices {
        for bit in 0..<8 {
          var changed = bytes
          changed[index] ^= 1 << UInt8(bit)
          do throws(VhostUserError) {
            let other = try Self.decode(changed, descriptorCount: count)
            accepted += 1
            let again = other.bytes(needsReply: MessageHeader(changed).needsReply)
            #expect(Self.significant(again) == Self.significant(changed), "\(request) \(index)")
          } catch {
            refused += 1
            #expect(!error.description.isEmpty)
          }
        }
      }
    }
    #expect(refused > 1000 && accepted > 1000)
  }

  /// Bytes without flags the specification leaves free and without padding.
  private static func significant(_ bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    bytes[4] &= 0xf
    for index in 5..<8 { bytes[index] = 0 }
    switch FrontEndRequest(rawValue: MessageHeader(bytes).request) {
    case .setMemoryTable: for index in 16..<20 { bytes[index] = 0 }
    case .addMemoryRegion, .removeMemoryRegion: for index in 12..<20 { bytes[index] = 0 }
    default: break
    }
    return bytes
  }

  @Test func `a payload of any other length is refused by name`() {
    var random = SeededGenerator(seed: TestSeed.seed(default: 0x6c65))
    for request in FrontEndRequest.allCases {
      let message = random.message(request)
      let bytes = message.bytes()
      let payload = bytes.count - 12
      for length in 0...(CompanionLimits.payloadByteCountMax + 40) where length != payload {
        let other = (0..<length).map { 12 + $0 < bytes.count ? bytes[12 + $0] : 0 }
        let header = MessageHeader(
          request: request.rawValue, flags: 1, payloadByteCount: UInt32(length))
        #expect(
          Self.error(header.bytes + other, descriptorCount: message.descriptorCounts.upperBound)
            != nil, "\(request), \(length) bytes")
      }
    }
  }

  @Test func `what is no request of this protocol is refused by its header alone`() {
    func error(_ request: UInt32, _ flags: UInt32, _ count: UInt32) -> VhostUserError? {
      do throws(VhostUserError) {
        _ = try MessageHeader(request: request, flags: flags, payloadByteCount: count)
          .checkedRequest()
        return nil
      } catch {
        return error
      }
    }
    #expect(error(1, 1, 0) == nil)
    #expect(error(1, 9, 0) == nil)
    #expect(error(1, 0, 0) == .badFlags(request: 1, flags: 0))
    #expect(error(1, 2, 0) == .badFlags(request: 1, flags: 2))
    #expect(error(1, 5, 0) == .badFlags(request: 1, flags: 5))
    #expect(error(0, 1, 0) == .unknownRequest(0))
    #expect(error(21, 1, 8) == .unknownRequest(21))
    #expect(error(.max, 1, .max) == .unknownRequest(.max))
    #expect(error(2, 1, .max) == .badPayloadSize(.setFeatures, byteCount: .max))
    #expect(error(5, 1, 8 + 9 * 32) == .badPayloadSize(.setMemoryTable, byteCount: 296))
  }

  @Test func `fields out of bounds are refused by name`() {
    func error(_ request: FrontEndRequest, _ payload: [UInt8], _ count: Int = 0)
      -> VhostUserError?
    {
      do throws(VhostUserError) {
        _ = try FrontEndMessage(request, payload: payload, descriptorCount: count)
        return nil
      } catch {
        return error
      }
    }
    #expect(
      error(.setRingBase, [0, 1, 0, 0, 0, 0, 0, 0])
        == .badField(.setRingBase, field: "ring", value: 256))
    #expect(
      error(.setRingEnable, [0, 0, 0, 0, 2, 0, 0, 0])
        == .badField(.setRingEnable, field: "enable", value: 2))
    #expect(
      error(.setRingKick, [0, 2, 0, 0, 0, 0, 0, 0])
        == .badField(.setRingKick, field: "ring", value: 512))
    // A kick without its descriptor, and one that says it has none and brings one.
    let kick: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0]
    #expect(error(.setRingKick, kick) == .badDescriptorCount(.setRingKick, count: 0, wanted: 1))
    #expect(
      error(.setRingKick, [0, 1, 0, 0, 0, 0, 0, 0], 1)
        == .badDescriptorCount(.setRingKick, count: 1, wanted: 0))
    #expect(
      error(.setMemoryTable, [9, 0, 0, 0, 0, 0, 0, 0])
        == .tooManyRegions(count: 9, max: CompanionLimits.tableRegionCountMax))
    #expect(
      error(.setMemoryTable, [1, 0, 0, 0, 0, 0, 0, 0])
        == .badPayloadSize(.setMemoryTable, byteCount: 8))
    let access: [UInt8] = [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]
    #expect(
      error(.getConfiguration, access)
        == .badField(.getConfiguration, field: "offset", value: 256))
    #expect(
      error(.getConfiguration, Array(access.dropLast()))
        == .badField(.getConfiguration, field: "size", value: 1))
  }

  @Test func `replies carry version and reply flag`() {
    #expect(
      BackEndReply.number(.getFeatures, 0x1_4400_0000).bytes
        == [1, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x44, 1, 0, 0, 0])
    #expect(
      BackEndReply.ring(.getRingBase, RingNumber(ring: 3, value: 258)).bytes
        == [11, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 2, 1, 0, 0])
    #expect(
      BackEndReply.configuration(ConfigurationAccess(offset: 1, flags: 0, bytes: [9, 8])).bytes
        == [24, 0, 0, 0, 5, 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 8])
  }
}
