/// What is wrong with a PCI configuration that is to be saved or restored.
public enum PCIFault: Error, Hashable, Sendable, CustomStringConvertible {
  /// The saved bytes end early, carry bytes too many, or their checks fail.
  case damaged(String)
  /// Written by a later version of this program.
  case unknownVersion(UInt16)
  /// Only type 0 headers (devices, not bridges) migrate.
  case headerType(UInt8)
  /// Vendor and device id, vendor in the low half, of the saved device and of this one.
  case wrongDevice(saved: UInt32, present: UInt32)
  /// One of the two has the BAR and the other does not, or they differ in width, space or prefetch.
  case barType(index: Int, saved: String, present: String)
  case barSize(index: Int, saved: UInt64, present: UInt64)
  /// Not a multiple of its own size.
  case barMisaligned(index: Int, address: UInt64, byteCount: UInt64)
  case barOverlap(first: Int, second: Int, address: UInt64)
  /// Some byte of it lies in none of the windows given for its space.
  case barOutsideWindow(index: Int, address: UInt64, byteCount: UInt64)
  /// `MSI` or `MSI-X` is there on one side only, or shaped differently.
  case capability(String, detail: String)

  public var description: String {
    func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }
    func place(_ address: UInt64, _ byteCount: UInt64) -> String {
      "at \(hex(address)) of \(hex(byteCount)) bytes"
    }
    switch self {
    case .damaged(let what): return "the saved configuration is damaged: \(what)"
    case .unknownVersion(let version): return "the saved configuration has version \(version)"
    case .headerType(let type): return "header type \(hex(type)) is not that of a device"
    case .wrongDevice(let saved, let present):
      return "saved from device \(hex(saved)), and this is \(hex(present))"
    case .barType(let index, let saved, let present):
      return "BAR \(index) was \(saved) and is \(present)"
    case .barSize(let index, let saved, let present):
      return "BAR \(index) had \(hex(saved)) bytes and has \(hex(present))"
    case .barMisaligned(let index, let address, let byteCount):
      return "BAR \(index) \(place(address, byteCount)) is not aligned to its size"
    case .barOverlap(let first, let second, let address):
      return "BAR \(first) and BAR \(second) overlap at \(hex(address))"
    case .barOutsideWindow(let index, let address, let byteCount):
      return "BAR \(index) \(place(address, byteCount)) leaves the window of its space"
    case .capability(let name, let detail): return "\(name): \(detail)"
    }
  }
}
