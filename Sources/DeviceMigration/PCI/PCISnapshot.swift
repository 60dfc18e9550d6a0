/// MSI as a guest has set it up.
struct MSISnapshot: Hashable, Sendable {
  let control: UInt16
  let address: UInt64
  let data: UInt16
  /// Masked vectors; 0 where the capability has no mask.
  let mask: UInt32

  var is64Bit: Bool { control & PCIRegister.msi64Bit != 0 }
  var isMaskable: Bool { control & PCIRegister.msiMaskable != 0 }
  /// What no guest can change: width, mask, vectors the device asks for.
  var shape: UInt16 { control & ~PCIRegister.msiWritable }
}

/// MSI-X as a guest has set it up: one entry for each vector of the table.
struct MSIXSnapshot: Hashable, Sendable {
  let control: UInt16
  let entries: [MSIXEntry]
}

/// A PCI configuration that travels.
///
/// The bytes, little-endian: `SPCI`, version (2), body byte count (4), body, CRC32C of all before
/// it (4). The body: vendor and device (4), command (2), BAR count (1) and the BARs (index 1,
/// kind 1, prefetchable 1, byte count 8, address 8), a byte 1 and MSI (control 2, address 8,
/// data 2, mask 4) or a byte 0, a byte 1 and MSI-X (control 2, entry count 2, entries of address 8,
/// data 4, control 4) or a byte 0.
struct PCISnapshot: Hashable, Sendable {
  static let magic: [UInt8] = [0x53, 0x50, 0x43, 0x49]
  static let version: UInt16 = 1
  /// 2048 MSI-X entries of 16 bytes and the rest.
  static let byteCountMax = 40 << 10

  let vendorAndDevice: UInt32
  let command: UInt16
  let bars: [PCIBar]
  let msi: MSISnapshot?
  let msix: MSIXSnapshot?

  func encoded() -> [UInt8] {
    var body = ByteWriter()
    body.append(vendorAndDevice)
    body.append(command)
    body.append(UInt8(bars.count))
    for bar in bars {
      body.append(UInt8(bar.index))
      body.append(bar.kind.rawValue)
      body.append(UInt8(bar.isPrefetchable ? 1 : 0))
      body.append(bar.byteCount)
      body.append(bar.address)
    }
    body.append(UInt8(msi == nil ? 0 : 1))
    if let msi {
      body.append(msi.control)
      body.append(msi.address)
      body.append(msi.data)
      body.append(msi.mask)
    }
    body.append(UInt8(msix == nil ? 0 : 1))
    if let msix {
      body.append(msix.control)
      body.append(UInt16(msix.entries.count))
      for entry in msix.entries {
        body.append(entry.address)
        body.append(entry.data)
        body.append(entry.control)
      }
    }
    return Self.sealed(body.bytes)
  }

  /// `body` with what goes around it.
  static func sealed(_ body: [UInt8]) -> [UInt8] {
    var writer = ByteWriter()
    writer.bytes = magic
    writer.append(version)
    writer.append(UInt32(body.count))
    writer.bytes += body
    writer.append(ConfigurationChecksum.crc32c(writer.bytes[...]))
    return writer.bytes
  }

  init(decoding bytes: [UInt8]) throws(PCIFault) {
    guard bytes.count <= Self.byteCountMax else { throw .damaged("\(bytes.count) bytes of it") }
    guard bytes.starts(with: Self.magic) else { throw .damaged("it does not begin with SPCI") }
    var reader = ByteReader(bytes: bytes, offset: Self.magic.count)
    let version = try reader.take(UInt16.self)
    guard version == Self.version else { throw .unknownVersion(version) }
    let byteCount = Int(try reader.take(UInt32.self))
    guard byteCount == bytes.count - 14 else {
      throw .damaged("\(byteCount) bytes are announced and \(bytes.count - 14) are there")
    }
    var check = ByteReader(bytes: bytes, offset: bytes.count - 4)
    let expected = try check.take(UInt32.self)
    guard ConfigurationChecksum.crc32c(bytes[..<(bytes.count - 4)]) == expected else {
      throw .damaged("its checksum does not fit")
    }
    vendorAndDevice = try reader.take(UInt32.self)
    command = try reader.take(UInt16.self)
    bars = try Self.bars(&reader)
    msi = try reader.takeFlag() ? Self.msi(&reader) : nil
    msix = try reader.takeFlag() ? Self.msix(&reader) : nil
    guard reader.offset == bytes.count - 4 else { throw .damaged("bytes follow its end") }
  }

  init(
    vendorAndDevice: UInt32, command: UInt16, bars: [PCIBar], msi: MSISnapshot?,
    msix: MSIXSnapshot?
  ) {
    self.vendorAndDevice = vendorAndDevice
    self.command = command
    self.bars = bars
    self.msi = msi
    self.msix = msix
  }

  private static func bars(_ reader: inout ByteReader) throws(PCIFault) -> [PCIBar] {
    var bars: [PCIBar] = []
    for _ in 0..<Int(try reader.take(UInt8.self)) {
      let index = Int(try reader.take(UInt8.self))
      let kind = PCIBar.Kind(rawValue: try reader.take(UInt8.self))
      let isPrefetchable = try reader.takeFlag()
      let byteCount = try reader.take(UInt64.self)
      let address = try reader.take(UInt64.self)
      guard let kind, byteCount.nonzeroBitCount == 1, index < PCIRegister.barCount else {
        throw .damaged("a BAR of it makes no sense")
      }
      bars.append(
        PCIBar(
          index: index, kind: kind, isPrefetchable: isPrefetchable, byteCount: byteCount,
          address: address))
    }
    return bars
  }

  private static func msi(_ reader: inout ByteReader) throws(PCIFault) -> MSISnapshot {
    let control = try reader.take(UInt16.self)
    let address = try reader.take(UInt64.self)
    let data = try reader.take(UInt16.self)
    let mask = try reader.take(UInt32.self)
    return MSISnapshot(control: control, address: address, data: data, mask: mask)
  }

  private static func msix(_ reader: inout ByteReader) throws(PCIFault) -> MSIXSnapshot {
    let control = try reader.take(UInt16.self)
    var entries: [MSIXEntry] = []
    for _ in 0..<Int(try reader.take(UInt16.self)) {
      let address = try reader.take(UInt64.self)
      let data = try reader.take(UInt32.self)
      entries.append(
        MSIXEntry(address: address, data: data, control: try reader.take(UInt32.self)))
    }
    return MSIXSnapshot(control: control, entries: entries)
  }
}
