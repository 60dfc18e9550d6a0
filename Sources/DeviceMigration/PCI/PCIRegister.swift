/// Offsets and bits of a type 0 configuration header (PCI Local Bus Specification 3.0, chapter 6).
enum PCIRegister {
  static let vendorAndDevice = 0x00
  static let command = 0x04
  static let status = 0x06
  static let headerType = 0x0e
  static let bar0 = 0x10
  static let capabilityPointer = 0x34
  static let barCount = 6

  static let commandIO: UInt16 = 1
  static let commandMemory: UInt16 = 2
  static let commandBusMaster: UInt16 = 4
  static let statusCapabilities: UInt32 = 1 << 4

  static let capabilityMSI: UInt32 = 0x05
  static let capabilityMSIX: UInt32 = 0x11
  /// 192 bytes behind the header hold at most this many capabilities of 4 bytes.
  static let capabilityCountMax = 48

  static let msiEnable: UInt16 = 1
  static let msi64Bit: UInt16 = 1 << 7
  static let msiMaskable: UInt16 = 1 << 8
  /// Enable and the number of vectors in use: what a guest writes.
  static let msiWritable: UInt16 = 0x71
  static let msixEnable: UInt16 = 1 << 15
  static let msixFunctionMask: UInt16 = 1 << 14
  static let msixTableSize: UInt16 = 0x7ff

  /// Bytes of an MSI capability: the 64-bit form and the per-vector mask lengthen it.
  static func msiByteCount(control: UInt16) -> Int {
    (control & msi64Bit != 0 ? 14 : 10) + (control & msiMaskable != 0 ? 10 : 0)
  }
}
