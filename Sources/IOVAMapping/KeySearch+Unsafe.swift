/// Search in rising keys.
enum KeySearch {
  /// How far from a guess the first look is.
  private static let reach = 8

  /// How many of `count` rising keys are at or below `wanted`.
  ///
  /// IOVAs are mostly handed out side by side, or else all over: either way a key lies near where
  /// its distance from `first` says, so the search begins there and spreads out, doubling. Keys
  /// made to defeat the guess cost a few looks more than halving would.
  ///
  /// - Parameter guess: below `count` if that is not 0; only the speed depends on it.
  ///
  /// Unsafe because it reads by address; sound as long as `keys` has `count` elements, since every
  /// index below is between `low` and `high`, which only close in from 0 and `count`.
  @unsafe @inline(__always) static func countAtOrBelow(
    _ wanted: UInt64, _ keys: UnsafePointer<UInt64>, _ count: Int, from guess: Int
  ) -> Int {
    var low = 0
    var high = count
    if count > 2 &* reach {
      var step = reach
      if unsafe keys[guess] <= wanted {
        low = guess &+ 1
        while low &+ step < high {
          if unsafe keys[low &+ step] > wanted {
            high = low &+ step
            break
          }
          low = low &+ step &+ 1
          step = step &* 2
        }
      } else {
        high = guess
        while high &- step > low {
          if unsafe keys[high &- step] <= wanted {
            low = high &- step &+ 1
            break
          }
          high = high &- step
          step = step &* 2
        }
      }
    }
    while low < high {
      let middle = (low &+ high) &>> 1
      if unsafe keys[middle] <= wanted { low = middle &+ 1 } else { high = middle }
    }
    return low
  }

  @inline(__always) static func countAtOrBelow(_ wanted: UInt64, _ keys: Span<UInt64>) -> Int {
    guard !keys.isEmpty else { return 0 }
    let last = keys[keys.count &- 1]
    return unsafe keys.withUnsafeBufferPointer { all in
      guard let base = all.baseAddress else { return 0 }
      let guess = unsafe guess(wanted, all.count, base[0], last)
      return unsafe countAtOrBelow(wanted, base, all.count, from: guess)
    }
  }

  /// Where a key lies if keys are spread evenly from `first` to `last`: an index below `count`,
  /// or 0.
  @inline(__always) static func guess(
    _ wanted: UInt64, _ count: Int, _ first: UInt64, _ last: UInt64
  ) -> Int {
    if wanted <= first { return 0 }
    if wanted >= last { return max(count, 1) &- 1 }
    // The quotient is below `count`: the offset is below the width.
    let product = (wanted &- first).multipliedFullWidth(by: UInt64(count))
    return Int((last &- first).dividingFullWidth(product).quotient)
  }
}
