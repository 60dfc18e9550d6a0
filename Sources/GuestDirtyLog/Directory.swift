import Addressing

/// The regions and consumers of a log. What is done to it under its lock is short; who needs longer
/// takes a copy, which costs one reference.
struct Directory {
  /// In GPA order, none overlapping another.
  var regions: [RegionLog] = []
  /// In the order of their coming.
  var consumers: [Consumer] = []
  /// The number given out last, to a region, a consumer or a harvest.
  var number: UInt64 = 0
  var holderCount: UInt64 = 0
  /// Harvests of which a part may have been taken.
  var harvestsUnderWay = 0
  var allDirtyReason: String?
  /// What regions that were removed had counted.
  var countsOfGone = SourceCounts()

  struct Consumer {
    let id: ConsumerID
    let name: String
    var flights: [UInt64: Flight] = [:]
  }

  /// One harvest on its way. The runs are shared with the harvest itself.
  struct Flight {
    struct Stretch {
      let serial: UInt64
      let region: RAMRegion
    }
    var runs: [GPARange]
    var stretches: [Stretch]
    let pageCount: UInt64
  }

  mutating func nextNumber() -> UInt64 {
    number &+= 1
    return number
  }

  func index(of consumer: ConsumerID) -> Int? {
    consumers.firstIndex { $0.id == consumer }
  }

  /// Pages of a flight that can not be put back, in words; nil when all can.
  func obstacle(to flight: Flight) -> String? {
    for stretch in flight.stretches where !regions.contains(where: { $0.serial == stretch.serial })
    {
      return "held pages of \(stretch.region), which has been removed since"
    }
    return nil
  }
}

/// Regions in GPA order. A copy of the array is what others work with meanwhile.
extension [RegionLog] {
  /// The first region that ends at or after `page`.
  func index(endingFrom page: UInt64) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low &+ high) / 2
      if self[middle].lastPage < page { low = middle &+ 1 } else { high = middle }
    }
    return low
  }

  func region(holding page: UInt64) -> RegionLog? {
    let index = index(endingFrom: page)
    guard index < count, self[index].firstPage <= page else { return nil }
    return self[index]
  }
}
