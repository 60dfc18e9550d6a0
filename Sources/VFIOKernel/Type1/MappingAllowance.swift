/// How many mappings a type1 container can still hold (dma_avail; 65535 in all unless the module
/// parameter dma_entry_limit says otherwise), watched so that its end is announced before a map
/// fails.
///
/// An unmap says bytes, not mappings, so what is counted here is the least there can be; the kernel
/// is asked when that runs low, which is once in as many maps as there was room for.
struct MappingAllowance: Sendable {
  /// Parts of the limit, in percent, at which the rest is announced.
  static let announcedPercents = [10, 1]

  /// The most seen; nil where there is no limit.
  private(set) var limit: Int?
  /// At least so many are left.
  private(set) var leftMin = 0
  /// The kernel is to be asked when `leftMin` falls below.
  private var askBelow = 0
  /// How many of the announcements have been made since there was room.
  private var announced = 0

  init(available: Int?) {
    limit = available
    if let available { settle(available) }
  }

  private mutating func settle(_ available: Int) {
    leftMin = available
    let limit = max(limit ?? 0, available)
    self.limit = limit
    let percents = Self.announcedPercents.map { limit * $0 / 100 }
    announced = min(announced, percents.prefix { available <= $0 }.count)
    // Of a short rest half is used up before the next question.
    askBelow = percents.first { available > $0 } ?? available / 2
  }

  /// A mapping was made.
  /// - Returns: true when the kernel is to be asked, and ``isNow(_:)`` told.
  mutating func mapped() -> Bool {
    guard limit != nil else { return false }
    leftMin = max(0, leftMin - 1)
    return leftMin <= askBelow
  }

  /// The kernel says so many are available.
  /// - Returns: true when that is to be announced.
  mutating func isNow(_ available: Int) -> Bool {
    settle(available)
    let reached = Self.announcedPercents.prefix { available <= (limit ?? 0) * $0 / 100 }.count
    guard reached > announced else { return false }
    announced = reached
    return true
  }
}
