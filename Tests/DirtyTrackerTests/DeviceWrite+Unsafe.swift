import Addressing
import Simulation

extension SimulatedDevicePort {
  /// Eight bytes, whatever they are, written to one page.
  ///
  /// Unsafe because bytes are read from elements whatever their type. Sound because these are
  /// bytes.
  func touch(_ iova: IOVA) -> GPA? {
    let bytes: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
    return unsafe write(bytes.span.bytes, at: iova)
  }

  /// The page of a ``GenerationMemory``, of fewer than 256, that the device reads at an IOVA; nil
  /// where the IOMMU lets it read nothing.
  func page(behind iova: IOVA) -> UInt64? {
    var byte: [UInt8] = [0]
    var elements = byte.mutableSpan
    var buffer = unsafe elements.mutableBytes
    guard read(into: &buffer, at: iova) else { return nil }
    return UInt64(unsafe buffer.unsafeLoad(as: UInt8.self))
  }
}
