/// Saves and restores the PCI configuration of one device: command register, BARs, MSI and MSI-X.
///
/// Invariants:
/// 1. Restoring reads the device, compares everything, and only then writes: bytes that do not fit
///    this device change nothing.
/// 2. A BAR that is decoded, or has an address, is aligned to its size, inside a window of its
///    space and apart from every other. A BAR without address is left alone while its space is off.
/// 3. Order of writes: command without decoding and bus mastering, BARs, MSI, MSI-X, command. So no
///    BAR answers at an address it has only half of, and no vector fires half written.
public struct PCIConfiguration: Sendable {
  let space: any PCIConfigurationSpace
  let windows: PCIWindows

  /// - Parameter windows: where the BARs of this device may lie on this machine.
  public init(space: any PCIConfigurationSpace, windows: PCIWindows) {
    self.space = space
    self.windows = windows
  }

  /// The configuration as bytes.
  /// - Throws: what the device said, or ``DeviceError/Reason/configuration(_:)``.
  public func save(deviceName name: String) throws(DeviceError) -> [UInt8] {
    let layout = try PCILayout(reading: space, name: name)
    let command = try space.readConfiguration(at: PCIRegister.command, byteCount: 2)
    let snapshot = PCISnapshot(
      vendorAndDevice: layout.vendorAndDevice, command: UInt16(truncatingIfNeeded: command),
      bars: layout.bars, msi: try readMSI(layout), msix: try readMSIX(layout))
    return snapshot.encoded()
  }

  /// Validates `bytes` against this device, then writes them.
  /// - Throws: ``DeviceError/Reason/configuration(_:)`` with nothing written; or what the device
  ///   said, with the configuration written in part when a write failed.
  public func restore(_ bytes: RawSpan, deviceName name: String) throws(DeviceError) {
    guard bytes.byteCount <= PCISnapshot.byteCountMax else {
      throw Self.fault(.damaged("\(bytes.byteCount) bytes of it"), name, "restore")
    }
    let layout = try PCILayout(reading: space, name: name)
    let presentMSI = try readMSI(layout)
    let msixEntryCount = try layout.msix.map { (offset) throws(DeviceError) in
      try self.msixEntryCount(offset)
    }
    let snapshot: PCISnapshot
    do throws(PCIFault) {
      snapshot = try PCISnapshot(decoding: DeviceBytes.copy(bytes))
      let validation = PCIValidation(snapshot: snapshot, layout: layout, windows: windows)
      try validation.check(presentMSI: presentMSI, msixEntryCount: msixEntryCount)
    } catch {
      throw Self.fault(error, name, "restore")
    }
    do throws(DeviceError) {
      try write(snapshot, layout)
    } catch {
      throw error.with(outcome: "the configuration is written in part; the device is not to run")
    }
  }

  static func fault(_ fault: PCIFault, _ name: String, _ verb: String) -> DeviceError {
    DeviceError(
      .configuration(fault), object: name, operation: "\(verb) the PCI configuration",
      outcome: "nothing was written")
  }

  private func readMSI(_ layout: PCILayout) throws(DeviceError) -> MSISnapshot? {
    guard let offset = layout.msi else { return nil }
    let control = UInt16(
      truncatingIfNeeded: try space.readConfiguration(at: offset + 2, byteCount: 2))
    var address = UInt64(try space.readConfiguration(at: offset + 4, byteCount: 4))
    let isWide = control & PCIRegister.msi64Bit != 0
    if isWide {
      address |= UInt64(try space.readConfiguration(at: offset + 8, byteCount: 4)) << 32
    }
    let dataOffset = offset + (isWide ? 12 : 8)
    let data = try space.readConfiguration(at: dataOffset, byteCount: 2)
    let mask =
      control & PCIRegister.msiMaskable != 0
      ? try space.readConfiguration(at: dataOffset + 4, byteCount: 4) : 0
    return MSISnapshot(
      control: control, address: address, data: UInt16(truncatingIfNeeded: data), mask: mask)
  }

  private func msixEntryCount(_ offset: Int) throws(DeviceError) -> Int {
    let control = try space.readConfiguration(at: offset + 2, byteCount: 2)
    return Int(control & UInt32(PCIRegister.msixTableSize)) + 1
  }

  private func readMSIX(_ layout: PCILayout) throws(DeviceError) -> MSIXSnapshot? {
    guard let offset = layout.msix else { return nil }
    let control = try space.readConfiguration(at: offset + 2, byteCount: 2)
    var entries: [MSIXEntry] = []
    for index in 0..<(try msixEntryCount(offset)) {
      entries.append(try space.readMSIXEntry(index))
    }
    return MSIXSnapshot(control: UInt16(truncatingIfNeeded: control), entries: entries)
  }

  private func write(_ snapshot: PCISnapshot, _ layout: PCILayout) throws(DeviceError) {
    let silent =
      PCIRegister.commandIO | PCIRegister.commandMemory | PCIRegister.commandBusMaster
    try space.writeConfiguration(
      UInt32(snapshot.command & ~silent), at: PCIRegister.command, byteCount: 2)
    for bar in snapshot.bars {
      let offset = PCIRegister.bar0 + 4 * bar.index
      try space.writeConfiguration(
        UInt32(truncatingIfNeeded: bar.address), at: offset, byteCount: 4)
      if bar.kind == .memory64 {
        try space.writeConfiguration(UInt32(bar.address >> 32), at: offset + 4, byteCount: 4)
      }
    }
    if let msi = snapshot.msi, let offset = layout.msi { try write(msi, at: offset) }
    if let msix = snapshot.msix, let offset = layout.msix { try write(msix, at: offset) }
    try space.writeConfiguration(
      UInt32(snapshot.command), at: PCIRegister.command, byteCount: 2)
  }

  private func write(_ msi: MSISnapshot, at offset: Int) throws(DeviceError) {
    try space.writeConfiguration(
      UInt32(msi.control & ~PCIRegister.msiEnable), at: offset + 2, byteCount: 2)
    try space.writeConfiguration(
      UInt32(truncatingIfNeeded: msi.address), at: offset + 4, byteCount: 4)
    if msi.is64Bit {
      try space.writeConfiguration(UInt32(msi.address >> 32), at: offset + 8, byteCount: 4)
    }
    let dataOffset = offset + (msi.is64Bit ? 12 : 8)
    try space.writeConfiguration(UInt32(msi.data), at: dataOffset, byteCount: 2)
    if msi.isMaskable {
      try space.writeConfiguration(msi.mask, at: dataOffset + 4, byteCount: 4)
    }
    if msi.control & PCIRegister.msiEnable != 0 {
      try space.writeConfiguration(UInt32(msi.control), at: offset + 2, byteCount: 2)
    }
  }

  private func write(_ msix: MSIXSnapshot, at offset: Int) throws(DeviceError) {
    let held = msix.control & ~PCIRegister.msixEnable | PCIRegister.msixFunctionMask
    try space.writeConfiguration(UInt32(held), at: offset + 2, byteCount: 2)
    for (index, entry) in msix.entries.enumerated() {
      try space.writeMSIXEntry(entry, at: index)
    }
    try space.writeConfiguration(UInt32(msix.control), at: offset + 2, byteCount: 2)
  }
}
