/// A base address register with what is behind it.
struct PCIBar: Hashable, Sendable {
  enum Kind: UInt8, Sendable, CustomStringConvertible {
    case memory32 = 0
    case memory64 = 1
    case io = 2

    var description: String {
      switch self {
      case .memory32: "32-bit memory"
      case .memory64: "64-bit memory"
      case .io: "I/O"
      }
    }
  }

  let index: Int
  let kind: Kind
  let isPrefetchable: Bool
  let byteCount: UInt64
  let address: UInt64

  var typeName: String { isPrefetchable ? "\(kind), prefetchable" : "\(kind)" }
  /// Nil when it runs past the addresses its register can hold.
  var range: ClosedRange<UInt64>? {
    let (last, overflow) = address.addingReportingOverflow(byteCount - 1)
    guard !overflow, kind == .memory64 || last <= UInt64(UInt32.max) else { return nil }
    return address...last
  }
}

/// What a device is built like, which no guest changes, and where its registers lie.
struct PCILayout: Sendable {
  let vendorAndDevice: UInt32
  let bars: [PCIBar]
  /// Offsets of the capabilities.
  let msi: Int?
  let msix: Int?

  init(reading space: any PCIConfigurationSpace, name: String) throws(DeviceError) {
    let header = try space.readConfiguration(at: PCIRegister.headerType, byteCount: 1)
    guard header & 0x7f == 0 else {
      throw PCIConfiguration.fault(.headerType(UInt8(header & 0xff)), name, "read")
    }
    vendorAndDevice = try space.readConfiguration(at: PCIRegister.vendorAndDevice, byteCount: 4)
    bars = try Self.bars(of: space, name: name)
    (msi, msix) = try Self.capabilities(of: space, name: name)
  }

  private static func bars(
    of space: any PCIConfigurationSpace, name: String
  ) throws(DeviceError) -> [PCIBar] {
    var bars: [PCIBar] = []
    var index = 0
    while index < PCIRegister.barCount {
      let byteCount = try space.barByteCount(index)
      let low = try space.readConfiguration(at: PCIRegister.bar0 + 4 * index, byteCount: 4)
      if byteCount == 0 {
        index += 1
        continue
      }
      guard byteCount.nonzeroBitCount == 1 else {
        throw DeviceError(
          .protocolBroken, object: name, operation: "read the size of BAR \(index)",
          detail: "\(byteCount) is no power of two")
      }
      let isIO = low & 1 != 0
      let isWide = !isIO && low & 6 == 4 && index + 1 < PCIRegister.barCount
      var address = UInt64(low & (isIO ? ~3 : ~15))
      if isWide {
        let high = try space.readConfiguration(
          at: PCIRegister.bar0 + 4 * (index + 1), byteCount: 4)
        address |= UInt64(high) << 32
      }
      bars.append(
        PCIBar(
          index: index, kind: isIO ? .io : isWide ? .memory64 : .memory32,
          isPrefetchable: !isIO && low & 8 != 0, byteCount: byteCount, address: address))
      index += isWide ? 2 : 1
    }
    return bars
  }

  private static func capabilities(
    of space: any PCIConfigurationSpace, name: String
  ) throws(DeviceError) -> (msi: Int?, msix: Int?) {
    var found: (msi: Int?, msix: Int?) = (nil, nil)
    let status = try space.readConfiguration(at: PCIRegister.status, byteCount: 2)
    guard status & PCIRegister.statusCapabilities != 0 else { return found }
    var next = try space.readConfiguration(at: PCIRegister.capabilityPointer, byteCount: 1) & ~3
    var count = 0
    while next != 0 {
      let offset = Int(next)
      guard offset >= 0x40, count < PCIRegister.capabilityCountMax else {
        let fault = PCIFault.capability("list", detail: "it leaves its bounds or runs in a circle")
        throw PCIConfiguration.fault(fault, name, "read")
      }
      let id = try space.readConfiguration(at: offset, byteCount: 1)
      let control = UInt16(
        truncatingIfNeeded: try space.readConfiguration(at: offset + 2, byteCount: 2))
      let byteCount =
        switch id {
        case PCIRegister.capabilityMSI: PCIRegister.msiByteCount(control: control)
        case PCIRegister.capabilityMSIX: 12
        default: 4
        }
      guard offset + byteCount <= 256 else {
        let fault = PCIFault.capability("list", detail: "a capability runs past its end")
        throw PCIConfiguration.fault(fault, name, "read")
      }
      if id == PCIRegister.capabilityMSI { found.msi = offset }
      if id == PCIRegister.capabilityMSIX { found.msix = offset }
      next = try space.readConfiguration(at: offset + 1, byteCount: 1) & ~3
      count += 1
    }
    return found
  }
}
