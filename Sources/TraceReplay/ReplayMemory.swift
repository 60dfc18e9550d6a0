import Addressing
import EventTrace
import GuestDirtyLog

/// What the bitmaps of a replay take: a few bytes of a trace can name more RAM than this machine
/// has bits for.
public struct ReplayMemory: Sendable {
  /// 1 GiB: 8 TiB of RAM with two readers.
  public static let byteCountMaxDefault: UInt64 = 1 << 30

  private let byteCountMax: UInt64
  private let pageSize: PageSize
  private var regions: [GPA: UInt64] = [:]
  private var readers: Set<Int> = []

  init(byteCountMax: UInt64, pageSize: PageSize) {
    self.byteCountMax = byteCountMax
    self.pageSize = pageSize
  }

  /// One bitmap of a region for what all readers share, one for what is held back, and one for each
  /// reader.
  private func byteCount(pages: UInt64, readerCount: Int) -> UInt64 {
    let (bytes, overflow) = (pages / 8).multipliedReportingOverflow(by: UInt64(readerCount + 2))
    return overflow ? .max : bytes
  }

  /// - Returns: why the entry is left out; nil when there is room for it.
  mutating func refusal(of entry: DirtyLogEntry) -> String? {
    var (regions, readers) = (regions, readers)
    switch entry {
    case .regionAdded(let region): regions[region.gpa.first] = region.gpa.pageCount(pageSize)
    case .regionRemoved(let gpa): regions[gpa] = nil
    case .consumerAdded(let consumer, _, _), .shareAdded(let consumer, _):
      readers.insert(consumer)
    case .consumerRemoved(let consumer): readers.remove(consumer)
    default: return nil
    }
    var pages: UInt64 = 0
    for count in regions.values {
      let (sum, overflow) = pages.addingReportingOverflow(count)
      pages = overflow ? .max : sum
    }
    let bytes = byteCount(pages: pages, readerCount: readers.count)
    guard bytes <= byteCountMax else {
      return "\(entry): left out, the bitmaps would take \(bytes) bytes of \(byteCountMax)"
    }
    (self.regions, self.readers) = (regions, readers)
    return nil
  }
}
