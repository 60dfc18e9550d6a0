import Addressing
import DMAContainer
import IOVAMapping

extension ContainerConformance {
  /// Random maps, unmaps, writes and syncs: whatever was written is in the next answer that covers
  /// it, and an exact container answers nothing else.
  static let losesNothing: Check = { (fixture) throws(ContainerError) in
    let seed = TestSeed.seed(default: 320)
    var random = SeededGenerator(seed: seed)
    let driver = ContainerDriver(fixture.container)
    try driver.start(logging: [world])
    // GPA pages by IOVA page, written and not yet reported.
    var pending: [UInt64: UInt64] = [:]
    for step in 0..<400 {
      let page = 0x100 + random.below(0x40 as UInt64)
      var problem: String?
      switch random.below(8) {
      case 0, 1:
        let iova = range(page, 1 + random.below(8 as UInt64))
        guard !driver.mappings.contains(where: { $0.iova.overlaps(iova) }) else { continue }
        let permissions: Permissions = random.once(in: 4) ? .read : .readWrite
        let ram = random.below(fixture.ramPageCount - 8)
        try driver.map(iova, to: fixture.gpa(ram), permissions: permissions)
      case 2:
        guard let mapping = driver.mappings.randomElement(using: &random) else { continue }
        let (_, dirty) = try driver.unmap(mapping.iova)
        problem = compare(dirty, &pending, inside: mapping.iova, isExact: driver.isExact)
      case 3:
        problem = compare(
          try driver.sync(), &pending, inside: .wholeSpace, isExact: driver.isExact)
      default:
        let gpa = fixture.write(address(page))
        let mapping = driver.mappings.first { $0.iova.contains(address(page)) && $0.isWritable }
        if gpa != mapping?.translate(address(page)) { problem = "page \(page) went astray" }
        if let gpa { pending[page] = gpa.rawValue >> 12 }
      }
      if let problem {
        return [
          "step \(step): \(problem) \(TestSeed.reproduce(seed, filter: "ContainerConformance"))"
        ]
      }
    }
    return []
  }

  private static func compare(
    _ dirty: [UInt64: UInt64], _ pending: inout [UInt64: UInt64], inside range: IOVARange,
    isExact: Bool
  ) -> String? {
    let expected = pending.filter { range.contains(IOVA($0.key << 12)) }
    for (page, gpa) in expected {
      if dirty[page] != gpa { return "page \(page) was written and is not dirty" }
      pending[page] = nil
    }
    return isExact && dirty != expected ? "\(dirty) is not \(expected)" : nil
  }
}
