/// Who speaks.
public enum VFIOUserSide: Hashable, Sendable {
  case client
  case server
}

/// The commands of vfio-user by number (QEMU's `docs/interop/vfio-user.rst`).
public enum VFIOUserCommand: UInt16, CaseIterable, Hashable, Sendable, CustomStringConvertible {
  case version = 1
  case mapDMA = 2
  case unmapDMA = 3
  case deviceInformation = 4
  case regionInformation = 5
  case regionIODescriptors = 6
  case irqInformation = 7
  case setIRQs = 8
  case regionRead = 9
  case regionWrite = 10
  case dmaRead = 11
  case dmaWrite = 12
  case reset = 13
  case regionWriteMulti = 15
  case feature = 16
  case migrationRead = 17
  case migrationWrite = 18

  /// DMA by message is the server's; everything else the client's.
  public var sender: VFIOUserSide { self == .dmaRead || self == .dmaWrite ? .server : .client }

  /// The protocol's word.
  public var description: String {
    switch self {
    case .version: "VERSION"
    case .mapDMA: "DMA_MAP"
    case .unmapDMA: "DMA_UNMAP"
    case .deviceInformation: "DEVICE_GET_INFO"
    case .regionInformation: "DEVICE_GET_REGION_INFO"
    case .regionIODescriptors: "DEVICE_GET_REGION_IO_FDS"
    case .irqInformation: "DEVICE_GET_IRQ_INFO"
    case .setIRQs: "DEVICE_SET_IRQS"
    case .regionRead: "REGION_READ"
    case .regionWrite: "REGION_WRITE"
    case .dmaRead: "DMA_READ"
    case .dmaWrite: "DMA_WRITE"
    case .reset: "DEVICE_RESET"
    case .regionWriteMulti: "REGION_WRITE_MULTI"
    case .feature: "DEVICE_FEATURE"
    case .migrationRead: "MIG_DATA_READ"
    case .migrationWrite: "MIG_DATA_WRITE"
    }
  }

  /// The word for any number.
  static func name(_ number: UInt16) -> String {
    VFIOUserCommand(rawValue: number)?.description ?? "command \(number)"
  }
}
