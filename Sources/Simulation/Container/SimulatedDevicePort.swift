public import Addressing
public import DMAContainer
import IOVAMapping
import Locking

/// One device's way to memory, through its container's translation.
public final class SimulatedDevicePort: DMAPort {
  public let name: String
  let iommu: SimulatedIOMMU
  let device: Int

  init(name: String, iommu: SimulatedIOMMU, device: Int) {
    self.name = name
    self.iommu = iommu
    self.device = device
  }

  public func write(_ bytes: RawSpan, at iova: IOVA) -> GPA? {
    guard let range = IOVARange(first: iova, byteCount: UInt64(bytes.byteCount)) else { return nil }
    return iommu.state.withLock { (state: inout SimulatedIOMMU.State) -> GPA? in
      guard state.devices[device].domain != nil,
        let pieces = state.pieces(range, for: .write), let first = pieces.first,
        pieces.count == 1 || Self.lieInMemory(pieces, iommu.memory),
        state.mayWrite(device, range)
      else { return nil }
      var offset = 0
      for (mapping, part) in pieces {
        let end = offset + Int(part.lastOffset) + 1
        guard let gpa = mapping.translate(part.first),
          iommu.memory.write(bytes.extracting(offset..<end), at: gpa)
        else { return nil }
        offset = end
        state.mark(device, mapping, part)
        if iommu.recordsWrites { note(&state, part, gpa) }
      }
      return first.mapping.translate(iova)
    }
  }

  public func read(into buffer: inout MutableRawSpan, at iova: IOVA) -> Bool {
    guard let range = IOVARange(first: iova, byteCount: UInt64(buffer.byteCount)) else {
      return false
    }
    let content: [UInt8]? = iommu.state.withLock { (state: inout SimulatedIOMMU.State) in
      guard state.devices[device].domain != nil, let pieces = state.pieces(range, for: .read) else {
        return nil
      }
      return Self.content(of: pieces, iommu.memory)
    }
    guard let content else { return false }
    for (offset, byte) in content.enumerated() {
      buffer.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
    }
    return true
  }

  /// Pins pages, which then count as dirty until they are unpinned and read once more.
  /// EINVAL: not a mediated device, or a page is not mapped; EPERM: not mapped writable.
  public func pin(_ range: IOVARange) throws(ContainerError) {
    try iommu.state.withLock { (state: inout SimulatedIOMMU.State) throws(ContainerError) in
      guard state.devices[device].pins != nil, state.pieces(range, for: []) != nil else {
        throw refused(range, ContainerErrno.einval, "a page is not mapped")
      }
      guard state.pieces(range, for: .write) != nil else {
        throw refused(range, ContainerErrno.eperm, "a page is not mapped writable")
      }
      for page in SimulatedIOMMU.pages(range) { state.pin(page, device) }
    }
  }

  public func unpin(_ range: IOVARange) {
    iommu.state.withLock { state in
      state.devices[device].pins?.remove(SimulatedIOMMU.pages(range))
    }
  }

  public var pinnedPageCount: Int {
    iommu.state.withLock { $0.devices[device].pins?.count ?? 0 }
  }

  private func refused(_ range: IOVARange, _ errno: Int32, _ detail: String) -> ContainerError {
    ContainerError(
      .map, object: "\(iommu.name): pin by \(name)", range: range, errno: errno, detail: detail)
  }

  private func note(_ state: inout SimulatedIOMMU.State, _ part: IOVARange, _ gpa: GPA) {
    let pages = SimulatedIOMMU.pages(part)
    for page in pages {
      state.writes.insert(
        DeviceWrite(
          device: name, iovaPage: page,
          gpaPage: gpa.rawValue >> 12 + (page - pages.lowerBound)))
    }
  }

  private static func content(
    of pieces: [(mapping: Mapping, part: IOVARange)], _ memory: any SimulatedMemory
  ) -> [UInt8]? {
    var content: [UInt8] = []
    for (mapping, part) in pieces {
      guard let gpa = mapping.translate(part.first),
        let piece = memory.bytes(at: gpa, count: Int(part.lastOffset) + 1)
      else { return nil }
      content += piece
    }
    return content
  }

  /// Asked before a write of several pieces, so that it is whole or not at all.
  private static func lieInMemory(
    _ pieces: [(mapping: Mapping, part: IOVARange)], _ memory: any SimulatedMemory
  ) -> Bool {
    content(of: pieces, memory) != nil
  }
}
