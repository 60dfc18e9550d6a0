import Addressing
import TestSupport
import VFIOUser

/// Random messages of every command, each as a peer may send it.
struct MessageGenerator {
  var random: SeededGenerator

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  mutating func word() -> UInt64 {
    // Small numbers, and those near the ends, more often than others.
    switch random.below(4) {
    case 0: random.below(64 as UInt64)
    case 1: UInt64.max - random.below(64 as UInt64)
    default: random.next() >> random.below(64 as UInt64)
    }
  }

  mutating func small() -> UInt32 { UInt32(truncatingIfNeeded: word()) }

  mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }

  mutating func range(byteCountMax: UInt64 = 1 << 40) -> IOVARange {
    while true {
      let range = IOVARange(first: IOVA(word()), byteCount: 1 + random.below(byteCountMax))
      if let range { return range }
    }
  }

  mutating func access(_ byteCount: Int) -> RegionAccess {
    RegionAccess(
      region: small(), offset: random.next() >> (1 + random.below(62 as UInt64)),
      byteCount: byteCount)
  }

  mutating func dmaRange(_ byteCount: Int) -> DMAMessageRange {
    DMAMessageRange(
      first: IOVA(random.next() >> (1 + random.below(62 as UInt64))), byteCount: byteCount)
  }

  mutating func capabilities() -> VersionCapabilities {
    func maybe<T>(_ value: T) -> T? { random.once(in: 2) ? value : nil }
    var capabilities = VersionCapabilities()
    capabilities.descriptorCountMax = maybe(random.below(1025))
    capabilities.dataByteCountMax = maybe(1 + random.below(1 << 30))
    capabilities.mappingCountMax = maybe(random.below(1 << 40))
    capabilities.pageSizes = maybe(1 << (12 + random.below(20 as UInt64)))
    capabilities.twinSocket = maybe(
      .init(isSupported: random.once(in: 2), descriptorIndex: maybe(random.below(8))))
    capabilities.writesMultiple = maybe(random.once(in: 2))
    capabilities.migrationPageSize = maybe(4096)
    capabilities.migrationBitmapByteCountMax = maybe(random.below(1 << 40 as UInt64))
    capabilities.reportsAnyRange = maybe(random.once(in: 2))
    return capabilities
  }

  mutating func unmap() -> DMAUnmapMessage {
    switch random.below(3) {
    case 0: return DMAUnmapMessage(first: 0, size: 0, what: .everything)
    case 1: return DMAUnmapMessage(first: word(), size: word())
    default:
      let pageSize: UInt64 = 1 << (12 + random.below(4 as UInt64))
      let size = 1 + random.below(1 << 30 as UInt64)
      let pages = (size + pageSize - 1) / pageSize
      return DMAUnmapMessage(
        first: word(), size: size,
        what: .rangeWithBitmap(pageSize: pageSize, byteCount: Int((pages + 63) / 64 * 8)))
    }
  }

  mutating func feature() -> FeatureMessage {
    let feature = VFIOUserFeature.allCases[random.below(VFIOUserFeature.allCases.count)]
    let use: FeatureMessage.Use =
      switch random.below(3) {
      case 0: .get
      case 1: .set
      default: .probe(get: random.once(in: 2), set: random.once(in: 2))
      }
    return FeatureMessage(
      feature, use, data: bytes(random.below(40)), answerByteCount: random.below(1 << 20))
  }

  mutating func irqs() -> SetIRQsMessage {
    let count = UInt32(random.below(20))
    let values: SetIRQsMessage.Values =
      switch random.below(3) {
      case 0: .none
      case 1: .truths((0..<count).map { _ in random.once(in: 2) })
      default: .eventDescriptors
      }
    return SetIRQsMessage(
      index: small(), start: UInt32(random.below(1 << 20)), count: count,
      action: SetIRQsMessage.Action.allCases[random.below(3)], values: values)
  }

  mutating func request(_ command: VFIOUserCommand) -> VFIOUserRequest {
    let count = random.below(200)
    switch command {
    case .version:
      return .version(
        VersionMessage(
          major: UInt16(random.below(3)), minor: UInt16(random.below(9)),
          capabilities: capabilities()))
    case .mapDMA:
      let accesses: [DMAMapMessage.Access] = [.unstated, .mapped, .file, .mappedOrFile]
      return .mapDMA(
        DMAMapMessage(
          iova: range(), fileOffset: random.next() >> (2 + random.below(60 as UInt64)),
          permissions: Permissions(rawValue: UInt8(random.below(4))),
          access: accesses[random.below(4)]))
    case .unmapDMA: return .unmapDMA(unmap())
    case .deviceInformation: return .deviceInformation
    case .regionInformation: return .regionInformation(index: small(), argsz: small() | 32)
    case .regionIODescriptors: return .regionIODescriptors(index: small(), argsz: small() | 16)
    case .irqInformation: return .irqInformation(index: small())
    case .setIRQs: return .setIRQs(irqs())
    case .regionRead: return .regionRead(access(random.below(1 << 20)))
    case .regionWrite: return .regionWrite(access(count), bytes(count))
    case .dmaRead: return .dmaRead(dmaRange(random.below(500)))
    case .dmaWrite: return .dmaWrite(dmaRange(count), bytes(count))
    case .reset: return .reset
    case .regionWriteMulti:
      return .regionWriteMulti(
        (0..<random.below(20)).map { _ in
          SmallRegionWrite(region: small(), offset: word(), bytes: bytes(1 + random.below(8)))
        })
    case .feature: return .feature(feature())
    case .migrationRead: return .migrationRead(byteCount: random.below(1 << 20))
    case .migrationWrite: return .migrationWrite(bytes(count))
    }
  }

  /// An answer a peer may give.
  mutating func reply(to request: VFIOUserRequest) -> VFIOUserReply {
    switch request {
    case .version:
      return .version(VersionMessage(minor: 1, capabilities: capabilities()))
    case .mapDMA, .setIRQs, .reset, .migrationWrite: return .done
    case .unmapDMA(let message):
      guard case .rangeWithBitmap(_, let byteCount) = message.what, byteCount < 1 << 16,
        random.once(in: 2)
      else { return .unmapDMA(DMAUnmapReply(bitmap: nil)) }
      return .unmapDMA(DMAUnmapReply(bitmap: bytes(byteCount)))
    case .deviceInformation:
      return .deviceInformation(
        DeviceInformation(
          canReset: random.once(in: 2), isPCI: random.once(in: 2), regionCount: small(),
          irqCount: small()))
    case .regionInformation(let index, _):
      return .regionInformation(
        RegionInformation(
          index: index, access: .init(rawValue: small()), byteCount: word(), mapOffset: word(),
          areas: (0..<random.below(4)).map { _ in .init(offset: word(), byteCount: word()) }),
        neededByteCount: nil)
    case .regionIODescriptors(let index, _):
      return .regionIODescriptors(
        index: index,
        (0..<random.below(4)).map { _ in
          RegionIODescriptor(
            offset: word(), byteCount: word(), descriptorIndex: small(), type: small(),
            flags: small(), shadowIndex: small(), match: word())
        }, neededByteCount: nil)
    case .irqInformation(let index):
      return .irqInformation(
        IRQInformation(index: index, flags: .init(rawValue: small()), count: small()))
    case .regionRead(let access):
      return .regionRead(bytes(random.below(min(access.byteCount, 300) + 1)))
    case .regionWrite: return .regionWrite
    case .dmaRead(let range): return .dmaRead(bytes(range.byteCount))
    case .dmaWrite: return .dmaWrite
    case .regionWriteMulti: return .regionWriteMulti
    case .feature(let message):
      var answer = message
      answer.data = bytes(random.below(50))
      answer.argsz = UInt32(8 + answer.data.count)
      return .feature(answer)
    case .migrationRead(let byteCount):
      return .migrationRead(bytes(random.below(min(byteCount, 300) + 1)))
    }
  }
}
