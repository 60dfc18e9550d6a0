import Addressing
import TestSupport
import Testing
import VFIOUser

/// The codec: what goes out comes in, and what a peer may send is taken as the tables say.
@Suite struct CodecTests {
  static let limits = MessageLimits()

  @Test(arguments: VFIOUserCommand.allCases)
  func `a request comes back from its bytes`(command: VFIOUserCommand) throws {
    var generator = MessageGenerator(seed: TestSeed.seed(default: UInt64(command.rawValue)))
    for _ in 0..<300 {
      let request = generator.request(command)
      let bytes = request.encoded()
      let decoded = try VFIOUserRequest(
        decoding: command.rawValue, bytes, from: command.sender, limits: Self.limits)
      #expect(decoded == request)
      #expect(decoded.command == command)
    }
  }

  @Test(arguments: VFIOUserCommand.allCases)
  func `an answer comes back from its bytes`(command: VFIOUserCommand) throws {
    var generator = MessageGenerator(seed: TestSeed.seed(default: 77 + UInt64(command.rawValue)))
    for _ in 0..<300 {
      let request = generator.request(command)
      let reply = generator.reply(to: request)
      let (bytes, isWhole) = reply.encoded(to: request)
      let decoded = try VFIOUserReply(decoding: bytes, to: request)
      if isWhole {
        #expect(decoded == reply)
      } else {
        // Cut: it says how much room all of it needs.
        switch decoded {
        case .regionInformation(_, let needed), .regionIODescriptors(_, _, let needed):
          #expect((needed ?? 0) > bytes.count)
        default: Issue.record("\(decoded)")
        }
      }
    }
  }

  @Test func `a header comes back from its bytes`() throws {
    var random = SeededGenerator(seed: TestSeed.seed(default: 3))
    let kinds: [MessageHeader.Kind] = [
      .command(awaitsReply: true), .command(awaitsReply: false), .reply, .errorReply(errno: 22),
    ]
    for kind in kinds {
      let header = MessageHeader(
        id: UInt16(truncatingIfNeeded: random.next()),
        command: UInt16(truncatingIfNeeded: random.next()),
        payloadByteCount: random.below(1 << 20), kind: kind)
      #expect(try MessageHeader(decoding: header.encoded(), limits: Self.limits) == header)
    }
  }

  /// `(size, flags, errno)` as they come, and what is made of them; nil: the connection is closed.
  @Test func `a header that cannot be is fatal, an odd errno is EINVAL`() throws {
    let most = UInt32(Self.limits.messageByteCountMax)
    #expect(most == (1 << 20) + 32)
    let rows: [(size: UInt32, flags: UInt32, errno: UInt32, kind: MessageHeader.Kind?)] = [
      (16, 0, 0, .command(awaitsReply: true)), (16, 0x10, 0, .command(awaitsReply: false)),
      (most, 1, 0, .reply), (16, 0x21, 2, .errorReply(errno: 2)),
      (16, 0x21, 0, .errorReply(errno: 22)), (16, 0x21, 4097, .errorReply(errno: 22)),
      (16, 0x21, .max, .errorReply(errno: 22)), (16, 0x30, 9, .command(awaitsReply: false)),
      (16, 0xffff_ff00, 0, .command(awaitsReply: true)),
      (15, 0, 0, nil), (0, 0, 0, nil), (most + 1, 0, 0, nil), (.max, 1, 0, nil),
      (16, 2, 0, nil), (16, 0xf, 0, nil),
    ]
    for row in rows {
      var bytes: [UInt8] = [7, 0, 4, 0]
      for word in [row.size, row.flags, row.errno] {
        for shift in stride(from: 0, to: 32, by: 8) {
          bytes.append(UInt8(truncatingIfNeeded: word >> UInt32(shift)))
        }
      }
      do throws(VFIOUserError) {
        let header = try MessageHeader(decoding: bytes, limits: Self.limits)
        #expect(header.kind == row.kind)
        #expect(header.id == 7 && header.command == 4)
      } catch {
        #expect(row.kind == nil, "\(row): \(error)")
        #expect(error.reason == .protocolBroken && error.endsConnection && error.errno == 22)
      }
    }
  }

  // MARK: mutation

  /// What the two decoders make of bytes, compared; nil where they agree.
  static func disagreement(
    _ command: VFIOUserCommand, _ bytes: [UInt8], fault: NaiveDecoder.Fault? = nil
  ) -> String? {
    let naive = NaiveDecoder.fields(
      command, bytes, dataMax: UInt64(limits.dataByteCountMax), fault: fault)
    do throws(VFIOUserError) {
      let request = try VFIOUserRequest(
        decoding: command.rawValue, bytes, from: .client, limits: limits)
      let fields = NaiveDecoder.fields(request)
      return naive == fields ? nil : "\(command) \(bytes): \(fields) and not \(naive as Any)"
    } catch {
      if error.reason != .malformed || error.errno != 22 { return "\(error)" }
      return naive == nil ? nil : "\(command) \(bytes): \(error)"
    }
  }

  /// Messages as they are, cut to every length, longer, and with every byte replaced.
  static func mutations(
    _ command: VFIOUserCommand, seed: UInt64, _ body: ([UInt8]) -> Bool
  ) {
    var generator = MessageGenerator(seed: seed)
    for _ in 0..<30 {
      let bytes = generator.request(command).encoded()
      guard body(bytes), body(bytes + [0]), body(bytes + generator.bytes(24)) else { return }
      for count in bytes.indices.prefix(80) where !body(Array(bytes.prefix(count))) { return }
      for index in bytes.indices.prefix(80) {
        for value in [0, 1, 0x80, 0xff, bytes[index] &+ 1, generator.bytes(1)[0]] {
          var changed = bytes
          changed[index] = value
          guard body(changed) else { return }
        }
      }
    }
  }

  static let compared = VFIOUserCommand.allCases.filter {
    $0.sender == .client && $0 != .version
  }

  @Test(arguments: compared)
  func `whatever byte or length is changed, both decoders agree`(command: VFIOUserCommand) {
    let seed = TestSeed.seed(default: 1000 + UInt64(command.rawValue))
    var wrong: String?
    Self.mutations(command, seed: seed) { bytes in
      wrong = Self.disagreement(command, bytes)
      return wrong == nil
    }
    #expect(wrong == nil, "\(TestSeed.reproduce(seed, filter: "CodecTests"))")
  }

  @Test(arguments: NaiveDecoder.Fault.allCases)
  func `the comparison notices a decoder that forgets`(fault: NaiveDecoder.Fault) {
    var noticed = false
    for command in Self.compared {
      Self.mutations(command, seed: 9) { bytes in
        noticed = noticed || Self.disagreement(command, bytes, fault: fault) != nil
        return !noticed
      }
    }
    #expect(noticed)
  }

  @Test(arguments: VFIOUserCommand.allCases)
  func `no answer, however changed, does anything but be taken or refused`(
    command: VFIOUserCommand
  ) {
    var generator = MessageGenerator(seed: TestSeed.seed(default: 5 + UInt64(command.rawValue)))
    var refusedCount = 0
    for _ in 0..<20 {
      let request = generator.request(command)
      let bytes = generator.reply(to: request).encoded(to: request).payload
      var all = bytes.indices.prefix(100).map { Array(bytes.prefix($0)) }
      for index in bytes.indices.prefix(100) {
        for value in [0, 1, 0x7f, 0xff] as [UInt8] {
          var changed = bytes
          changed[index] = value
          all.append(changed)
        }
      }
      for changed in all {
        do throws(VFIOUserError) { _ = try VFIOUserReply(decoding: changed, to: request) } catch {
          #expect(error.reason == .malformed && !error.endsConnection)
          refusedCount += 1
        }
      }
    }
    let hasForm: Set<VFIOUserCommand> = [
      .version, .deviceInformation, .regionInformation, .regionIODescriptors, .irqInformation,
      .regionRead, .regionWrite, .dmaRead, .feature, .migrationRead,
    ]
    #expect(refusedCount > 0 || !hasForm.contains(command))
  }

  @Test func `a command of the other side, or of nobody, is EINVAL`() {
    for (command, side) in [
      (11, .client), (12, .client), (2, .server), (14, .client), (0, .client), (19, .client),
      (0xffff, .server),
    ] as [(UInt16, VFIOUserSide)] {
      #expect(throws: VFIOUserError.self) {
        try VFIOUserRequest(
          decoding: command, [UInt8](repeating: 0, count: 64), from: side, limits: Self.limits)
      }
    }
  }

  @Test func `a count past the limit is refused before there is memory for it`() {
    let limits = MessageLimits(dataByteCountMax: 1024)
    for request in [
      .regionRead(RegionAccess(region: 0, offset: 0, byteCount: 1025)),
      .migrationRead(byteCount: 1025),
      .unmapDMA(
        DMAUnmapMessage(
          first: 0, size: 4096 * 64 * 124,
          what: .rangeWithBitmap(pageSize: 4096, byteCount: 992))),
    ] as [VFIOUserRequest] {
      #expect(throws: VFIOUserError.self) {
        try VFIOUserRequest(
          decoding: request.command.rawValue, request.encoded(), from: .client, limits: limits)
      }
      #expect(throws: Never.self) {
        try VFIOUserRequest(
          decoding: request.command.rawValue, request.encoded(), from: .client,
          limits: MessageLimits(dataByteCountMax: 2048))
      }
    }
  }
}
