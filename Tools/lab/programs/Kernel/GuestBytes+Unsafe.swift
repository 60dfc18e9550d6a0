import Addressing
import Simulation

extension GuestRAM {
  /// Unsafe because bytes are written to elements whatever their type. Sound because every byte is a
  /// valid `UInt8`.
  func bytes(at gpa: UInt64, count: Int) -> [UInt8] {
    var content = [UInt8](repeating: 0, count: count)
    var elements = content.mutableSpan
    var buffer = unsafe elements.mutableBytes
    return read(into: &buffer, at: GPA(gpa)) ? content : []
  }

  func store(_ content: [UInt8], at gpa: UInt64) {
    let bytes = unsafe content.span.bytes
    _ = write(bytes, at: GPA(gpa))
  }
}

extension SimulatedDevicePort {
  /// As above.
  func store(_ content: [UInt8], at iova: IOVA) -> Bool {
    let bytes = unsafe content.span.bytes
    return write(bytes, at: iova) != nil
  }
}
