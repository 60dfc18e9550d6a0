import Addressing
import Locking
import VFIOUser

/// What a VMM writes for a device that asks it to.
final class VMMMemory: DMAMessageHandler {
  private let addresses = Mutex<[IOVA]>([])
  var written: [IOVA] { addresses.withLock { $0 } }

  func read(into bytes: inout MutableRawSpan, at iova: IOVA) -> Int32 { 0 }

  func write(_ bytes: RawSpan, at iova: IOVA) -> Int32 {
    addresses.withLock { $0.append(iova) }
    return 0
  }
}
