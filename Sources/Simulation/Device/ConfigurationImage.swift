/// 256 bytes of configuration space under construction, with a mask of what a guest can write.
struct ConfigurationImage {
  private(set) var bytes = [UInt8](repeating: 0, count: 256)
  private(set) var writable = [UInt8](repeating: 0, count: 256)

  mutating func put(_ value: UInt32, at offset: Int, byteCount: Int) {
    for index in 0..<byteCount {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index))
    }
  }

  mutating func allow(_ mask: UInt32, at offset: Int, byteCount: Int) {
    for index in 0..<byteCount {
      writable[offset + index] = UInt8(truncatingIfNeeded: mask >> UInt32(8 * index))
    }
  }

  /// The address bits of a BAR below its size can not be written: they read as its type.
  mutating func put(_ bar: SimulatedBar) {
    let offset = 0x10 + 4 * bar.index
    let mask = ~(bar.byteCount - 1)
    let type: UInt32 =
      switch bar.kind {
      case .io: 1
      case .memory32: 0
      case .memory64: 4
      }
    put(type | (bar.isPrefetchable && bar.kind != .io ? 8 : 0), at: offset, byteCount: 4)
    allow(UInt32(truncatingIfNeeded: mask), at: offset, byteCount: 4)
    if bar.kind == .memory64 { allow(UInt32(mask >> 32), at: offset + 4, byteCount: 4) }
  }

  /// The capability list: MSI with 64-bit address and mask, MSI-X.
  mutating func link(msi: Int?, msix: Int?, msixEntryCount: Int) {
    var pointer = 0x34
    if let msi {
      put(UInt32(msi), at: pointer, byteCount: 1)
      put(0x05, at: msi, byteCount: 1)
      // 8 vectors asked for, 64-bit, maskable.
      put(0x0186, at: msi + 2, byteCount: 2)
      allow(0x0071, at: msi + 2, byteCount: 2)
      allow(0xffff_fffc, at: msi + 4, byteCount: 4)
      allow(0xffff_ffff, at: msi + 8, byteCount: 4)
      allow(0xffff, at: msi + 12, byteCount: 2)
      allow(0xff, at: msi + 16, byteCount: 4)
      pointer = msi + 1
    }
    if let msix {
      put(UInt32(msix), at: pointer, byteCount: 1)
      put(0x11, at: msix, byteCount: 1)
      put(UInt32(msixEntryCount - 1), at: msix + 2, byteCount: 2)
      allow(0xc000, at: msix + 2, byteCount: 2)
    }
  }
}
