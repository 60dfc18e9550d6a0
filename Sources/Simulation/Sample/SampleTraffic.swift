import Addressing
import EventTrace

/// A recorded event with its IOVA moved up; nil when it would leave the address space.
func moved(_ event: FtraceEvent.Kind, byBytes byteCount: UInt64) -> FtraceEvent.Kind? {
  func moved(_ range: IOVARange) -> IOVARange? {
    guard let first = range.first.advanced(byBytes: byteCount),
      let last = range.last.advanced(byBytes: byteCount)
    else { return nil }
    return AddressRange(first: first, last: last)
  }
  switch event {
  case .map(let iova, let gpaFirst):
    return moved(iova).map { .map(iova: $0, gpaFirst: gpaFirst) }
  case .unmap(let iova, let count):
    return moved(iova).map { .unmap(iova: $0, unmappedByteCount: count) }
  }
}
