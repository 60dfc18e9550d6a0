import Addressing
import PageBitmap

/// The model: a set of page numbers, and a scatter that asks every byte's page.
struct NaiveBitmap {
  var pages: Set<UInt64> = []

  mutating func insert(first: UInt64, last: UInt64) -> UInt64 {
    let before = pages.count
    pages.formUnion(first...last)
    return UInt64(pages.count - before)
  }

  mutating func remove(first: UInt64, last: UInt64) -> UInt64 {
    let before = pages.count
    pages.subtract(first...last)
    return UInt64(before - pages.count)
  }

  var runs: [PageRun] {
    var found: [PageRun] = []
    for page in pages.sorted() {
      if let previous = found.last, previous.last + 1 == page {
        found[found.count - 1] = PageRun(first: previous.first, last: page)
      } else {
        found.append(PageRun(first: page, last: page))
      }
    }
    return found
  }

  /// Steps through IOVA in units of 4 KiB or less, whatever the page sizes are.
  mutating func scatter(
    _ query: borrowing QueryBitmap, through mappings: [Mapping], gpaFirst: GPA,
    pageSize: PageSize, pageCount: UInt64, step: UInt64
  ) {
    for mapping in mappings where mapping.isWritable {
      var offset: UInt64 = 0
      while offset <= mapping.iova.lastOffset {
        let iova = IOVA(mapping.iova.first.rawValue + offset)
        if query.contains(iova), let gpa = mapping.translate(iova), gpa >= gpaFirst {
          let page = (gpa.rawValue - gpaFirst.rawValue) / pageSize.bytes
          if page < pageCount { pages.insert(page) }
        }
        offset += step
      }
    }
  }
}

extension PageBitmap {
  var allRuns: [PageRun] {
    var found: [PageRun] = []
    forEachRun { found.append($0) }
    return found
  }
}
