import Addressing
import VFIOUser

/// What a command of the client says, read once more in the plainest way: offsets and sizes as the
/// specification's tables have them, in wide arithmetic, without a reader. It gives the fields in a
/// form of its own; nil is EINVAL.
enum NaiveDecoder {
  /// What may be wrong on purpose, to see that the comparison notices.
  enum Fault: CaseIterable {
    case forgetsArgsz
    case forgetsTheEndOfData
    case forgetsUnknownFlags
    case readsTheWrongField
  }

  private struct Bytes {
    let bytes: [UInt8]
    let fault: Fault?
    func number(_ at: Int, _ count: Int) -> UInt64 {
      (0..<count).reduce(0) { $0 | UInt64(bytes[at + $1]) << UInt64(8 * $1) }
    }
    func u32(_ at: Int) -> UInt64 { number(at, 4) }
    func u64(_ at: Int) -> UInt64 { number(at, 8) }
    func argsz(_ least: UInt64) -> Bool { fault == .forgetsArgsz || u32(0) >= least }
    func data(_ from: Int) -> [UInt64] { bytes[from...].map { UInt64($0) } }
  }

  /// - Returns: words in the order of the table, data as bytes at their end.
  static func fields(
    _ command: VFIOUserCommand, _ payload: [UInt8], dataMax: UInt64, fault: Fault? = nil
  ) -> [UInt64]? {
    let p = Bytes(bytes: payload, fault: fault)
    let n = payload.count
    func wraps(_ first: UInt64, _ size: UInt64) -> Bool {
      size == 0 || first.addingReportingOverflow(size - 1).overflow
    }
    switch command {
    case .mapDMA:
      guard n >= 32, p.argsz(32), fault == .forgetsUnknownFlags || p.u32(4) < 16,
        !wraps(p.u64(16), p.u64(24)), !wraps(p.u64(8), p.u64(24))
      else { return nil }
      return [p.u32(4) & 15, p.u64(8), p.u64(fault == .readsTheWrongField ? 8 : 16), p.u64(24)]
    case .unmapDMA:
      guard n >= 24, p.argsz(24) else { return nil }
      switch p.u32(4) {
      case 0: return [0, p.u64(8), p.u64(16)]
      case 2: return p.u64(8) == 0 && p.u64(16) == 0 ? [2, 0, 0] : nil
      case 1:
        guard n >= 40 else { return nil }
        let (page, size) = (p.u64(24), p.u64(32))
        guard page != 0, page & (page - 1) == 0 else { return nil }
        let pages = p.u64(16) / page + (p.u64(16) % page > 0 ? 1 : 0)
        guard size == (pages / 64 + (pages % 64 > 0 ? 1 : 0)) &* 8, size <= (dataMax - 40) / 8 * 8,
          fault == .forgetsArgsz || p.u32(0) >= 40 + size
        else { return nil }
        return [1, p.u64(8), p.u64(16), page, size]
      default: return nil
      }
    case .deviceInformation: return n >= 16 && p.argsz(16) ? [] : nil
    case .regionInformation: return n >= 32 && p.argsz(32) ? [p.u32(8), p.u32(0)] : nil
    case .regionIODescriptors:
      return n >= 16 && p.argsz(16) && p.u32(4) == 0 ? [p.u32(8), p.u32(0)] : nil
    case .irqInformation: return n >= 16 && p.argsz(16) ? [p.u32(8)] : nil
    case .setIRQs:
      guard n >= 20, p.argsz(20), fault == .forgetsUnknownFlags || p.u32(4) < 64,
        [8, 16, 32].contains(p.u32(4) & 0x38), [1, 2, 4].contains(p.u32(4) & 7),
        p.u32(12) + p.u32(16) <= UInt64(UInt32.max)
      else { return nil }
      guard p.u32(4) & 7 == 2 else {
        return [p.u32(4) & 63, p.u32(8), p.u32(12), p.u32(16)]
      }
      guard UInt64(n) - 20 >= p.u32(16) else { return nil }
      let truths = payload[20..<20 + Int(p.u32(16))].map { $0 == 0 ? 0 : 1 as UInt64 }
      return [p.u32(4) & 63, p.u32(8), p.u32(12), p.u32(16)] + truths
    case .reset: return []
    case .version, .dmaRead, .dmaWrite: return nil
    default: return moved(command, p, dataMax)
    }
  }

  /// Of commands that carry data, or a list.
  private static func moved(
    _ command: VFIOUserCommand, _ p: Bytes, _ dataMax: UInt64
  ) -> [UInt64]? {
    let (n, fault) = (p.bytes.count, p.fault)
    switch command {
    case .regionRead, .regionWrite:
      guard n >= 16, p.u32(12) <= dataMax, !p.u64(0).addingReportingOverflow(p.u32(12)).overflow
      else { return nil }
      if command == .regionRead { return [p.u64(0), p.u32(8), p.u32(12)] }
      let isWhole = UInt64(n) == 16 + p.u32(12)
      guard isWhole || fault == .forgetsTheEndOfData else { return nil }
      return [p.u64(0), p.u32(8), p.u32(12)] + p.data(16)
    case .regionWriteMulti:
      guard n >= 8, p.u64(0) <= 200, UInt64(n) == 8 + 24 * p.u64(0) else { return nil }
      var words = [p.u64(0)]
      for index in 0..<Int(p.u64(0)) {
        let at = 8 + 24 * index
        guard (1...8).contains(p.u32(at + 12)) else { return nil }
        words += [p.u64(at), p.u32(at + 8), p.number(at + 16, Int(p.u32(at + 12)))]
      }
      return words
    case .feature:
      guard n >= 8, p.argsz(8) else { return nil }
      let bits = p.u32(4) >> 16
      guard bits == 1 || bits == 2 || (4...7).contains(bits) else { return nil }
      return [p.u32(0), p.u32(4) & 0xffff, bits] + p.data(8)
    case .migrationRead:
      guard n >= 8, p.u32(4) <= dataMax, p.argsz(8 + p.u32(4)) else { return nil }
      return [p.u32(4)]
    case .migrationWrite:
      guard n >= 8, p.argsz(8), p.u32(4) <= dataMax else { return nil }
      guard UInt64(n) == 8 + p.u32(4) || fault == .forgetsTheEndOfData else { return nil }
      return p.data(8)
    default: return nil
    }
  }

  /// The same form of what the codec gave.
  static func fields(_ request: VFIOUserRequest) -> [UInt64] {
    switch request {
    case .mapDMA(let message):
      let access: UInt64 =
        switch message.access {
        case .unstated: 0
        case .mapped: 4
        case .file: 8
        case .mappedOrFile: 12
        }
      return [
        UInt64(message.permissions.rawValue) | access, message.fileOffset,
        message.iova.first.rawValue, message.iova.lastOffset + 1,
      ]
    case .unmapDMA(let message):
      switch message.what {
      case .range: return [0, message.first, message.size]
      case .everything: return [2, 0, 0]
      case .rangeWithBitmap(let pageSize, let byteCount):
        return [1, message.first, message.size, pageSize, UInt64(byteCount)]
      }
    case .deviceInformation, .reset: return []
    case .regionInformation(let index, let argsz), .regionIODescriptors(let index, let argsz):
      return [UInt64(index), UInt64(argsz)]
    case .irqInformation(let index): return [UInt64(index)]
    case .setIRQs(let message):
      var kind: UInt64 = 1
      var truths: [UInt64] = []
      switch message.values {
      case .none: break
      case .truths(let values):
        kind = 2
        truths = values.map { $0 ? 1 : 0 }
      case .eventDescriptors: kind = 4
      }
      return [
        UInt64(message.action.rawValue) | kind, UInt64(message.index), UInt64(message.start),
        UInt64(message.count),
      ] + truths
    case .regionRead(let access):
      return [access.offset, UInt64(access.region), UInt64(access.byteCount)]
    case .regionWrite(let access, let data):
      return [access.offset, UInt64(access.region), UInt64(access.byteCount)]
        + data.map { UInt64($0) }
    case .regionWriteMulti(let writes):
      return [UInt64(writes.count)]
        + writes.flatMap { write in
          [
            write.offset, UInt64(write.region),
            write.bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) },
          ]
        }
    case .feature(let message):
      let bits: UInt64 =
        switch message.use {
        case .get: 1
        case .set: 2
        case .probe(let get, let set): 4 | (get ? 1 : 0) | (set ? 2 : 0)
        }
      return [UInt64(message.argsz), UInt64(message.feature), bits]
        + message.data.map { UInt64($0) }
    case .migrationRead(let byteCount): return [UInt64(byteCount)]
    case .migrationWrite(let data): return data.map { UInt64($0) }
    case .version, .dmaRead, .dmaWrite: return []
    }
  }
}
