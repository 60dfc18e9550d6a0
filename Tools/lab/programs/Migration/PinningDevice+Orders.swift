import Glibc

extension PinningDevice {
  /// Forgets failures that were ordered and did not come, and empties the journal.
  func clearOrders() throws {
    for operation in [Operation.failState, .failReport, .failStream, .failBroken, .clearJournal] {
      let errno = order(operation)
      if errno != 0 { throw LabError("\(operation) of \(name): \(Errno.name(errno))") }
    }
  }
}

func pause(milliseconds: UInt32) { usleep(milliseconds * 1000) }
