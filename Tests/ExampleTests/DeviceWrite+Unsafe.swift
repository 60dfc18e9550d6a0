import Addressing
import Simulation

extension SimulatedDevicePort {
  /// Writes eight bytes.
  ///
  /// Unsafe because bytes are read from elements whatever their type. Sound because these are
  /// bytes.
  func touch(_ iova: IOVA) -> GPA? {
    let bytes: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
    return unsafe write(bytes.span.bytes, at: iova)
  }
}
