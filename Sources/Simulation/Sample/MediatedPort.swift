import Addressing
import DMAContainer

/// The port of a mediated device. Only these pin: any other device's pin is refused, as its writes
/// need none.
final class MediatedPort: PinningPort {
  private let port: SimulatedDevicePort

  init(_ port: SimulatedDevicePort) { self.port = port }

  func write(_ bytes: RawSpan, at iova: IOVA) -> GPA? { port.write(bytes, at: iova) }

  func read(into buffer: inout MutableRawSpan, at iova: IOVA) -> Bool {
    port.read(into: &buffer, at: iova)
  }

  func pin(_ range: IOVARange) throws(ContainerError) { try port.pin(range) }
  func unpin(_ range: IOVARange) { port.unpin(range) }
}
