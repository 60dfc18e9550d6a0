import Addressing
import GuestDirtyLog
import Simulation

/// Guest memory as a simulated device writes it: through a mapping that KVM does not watch.
final class DeviceMemory: SimulatedMemory {
  private let pages: SharedPages
  private let regions: [RAMRegion]

  init(_ pages: SharedPages, _ regions: [RAMRegion]) {
    self.pages = pages
    self.regions = regions
  }

  /// Regions lie in the memory one after another.
  private func page(_ gpa: GPA) -> Int? {
    var base = 0
    for region in regions {
      let count = Int(region.gpa.lastOffset / 4096) + 1
      if region.gpa.contains(gpa) {
        return base + Int((gpa.rawValue - region.gpa.first.rawValue) / 4096)
      }
      base += count
    }
    return nil
  }

  func write(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard let page = page(gpa) else { return false }
    pages.write(UInt64(bytes.byteCount), to: page, through: .second)
    return true
  }

  func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool { page(gpa) != nil }
}

extension SimulatedDevicePort {
  /// Some bytes written to one page.
  ///
  /// Unsafe because elements are seen as bytes. Sound because they are bytes.
  func touch(_ iova: IOVA) -> GPA? {
    let bytes: [UInt8] = [1, 2, 3, 4]
    return unsafe write(bytes.span.bytes, at: iova)
  }
}
