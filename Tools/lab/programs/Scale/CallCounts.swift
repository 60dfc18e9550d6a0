/// How many ioctls, and how long they took.
struct CallCounts {
  private(set) var count = 0
  private(set) var nanoseconds: UInt64 = 0

  mutating func note(_ took: UInt64) {
    count += 1
    nanoseconds += took
  }
}
