/// Whether a saved configuration fits a device and the machine it is on. Pure: reads nothing,
/// writes nothing.
struct PCIValidation {
  let snapshot: PCISnapshot
  let layout: PCILayout
  let windows: PCIWindows

  func check(presentMSI: MSISnapshot?, msixEntryCount: Int?) throws(PCIFault) {
    guard snapshot.vendorAndDevice == layout.vendorAndDevice else {
      throw .wrongDevice(saved: snapshot.vendorAndDevice, present: layout.vendorAndDevice)
    }
    try checkTypes()
    try checkPlaces()
    guard snapshot.msi?.shape == presentMSI?.shape else {
      throw .capability("MSI", detail: "it is not the same on both sides")
    }
    if let msi = snapshot.msi, !msi.is64Bit, msi.address > UInt64(UInt32.max) {
      throw .capability("MSI", detail: "a 32-bit one has the address \(msi.address)")
    }
    if let msi = snapshot.msi, msi.control >> 4 & 7 > msi.control >> 1 & 7 {
      throw .capability("MSI", detail: "more vectors are enabled than the device has")
    }
    guard snapshot.msix?.entries.count == msixEntryCount else {
      throw .capability(
        "MSI-X",
        detail: "\(Self.vectors(snapshot.msix?.entries.count)) were saved and "
          + "\(Self.vectors(msixEntryCount)) are here")
    }
    if let msix = snapshot.msix,
      Int(msix.control & PCIRegister.msixTableSize) + 1 != msix.entries.count
    {
      throw .damaged("MSI-X names a table size its entries do not have")
    }
  }

  private static func vectors(_ count: Int?) -> String { count.map { "\($0) vectors" } ?? "none" }

  /// Every BAR of either side has its like on the other.
  private func checkTypes() throws(PCIFault) {
    for index in 0..<PCIRegister.barCount {
      let saved = snapshot.bars.filter { $0.index == index }
      guard saved.count <= 1 else { throw .damaged("BAR \(index) is there twice") }
      let present = layout.bars.first { $0.index == index }
      guard saved.first?.typeName == present?.typeName else {
        throw .barType(
          index: index, saved: saved.first?.typeName ?? "absent",
          present: present?.typeName ?? "absent")
      }
      if let saved = saved.first, let present, saved.byteCount != present.byteCount {
        throw .barSize(index: index, saved: saved.byteCount, present: present.byteCount)
      }
    }
  }

  private func checkPlaces() throws(PCIFault) {
    var placed: [(bar: PCIBar, range: ClosedRange<UInt64>)] = []
    for bar in snapshot.bars {
      guard bar.address & (bar.byteCount - 1) == 0 else {
        throw .barMisaligned(index: bar.index, address: bar.address, byteCount: bar.byteCount)
      }
      let isIO = bar.kind == .io
      let decoding = isIO ? PCIRegister.commandIO : PCIRegister.commandMemory
      if bar.address == 0, snapshot.command & decoding == 0 { continue }
      let spaces = isIO ? windows.io : windows.memory
      guard let range = bar.range,
        spaces.contains(where: {
          $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound
        })
      else {
        throw .barOutsideWindow(index: bar.index, address: bar.address, byteCount: bar.byteCount)
      }
      if let other = placed.first(where: {
        ($0.bar.kind == .io) == isIO && $0.range.overlaps(range)
      }) {
        throw .barOverlap(
          first: other.bar.index, second: bar.index,
          address: max(other.range.lowerBound, range.lowerBound))
      }
      placed.append((bar, range))
    }
  }
}
