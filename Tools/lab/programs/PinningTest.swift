import Addressing
import DMAContainer
import PageBitmap
import Simulation
import VFIOKernel

/// Section 3.3: the pinning device. Its journal is the ground truth.
enum PinningTest {
  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    let seed = arguments.first.flatMap { UInt64($0) } ?? 1
    let name = try PinningDevice.create(1)
    for seed in seed..<seed + 4 {
      let subject = try PinningSubject(name)
      let simulated = SimulatedType1(
        memory: subject.ram, validRanges: subject.container.capabilities.validRanges)
      let port = simulated.attachMediatedDevice(name, pinsOnDemand: false)
      try ScriptComparison.run(
        Script(seed: seed, randomCount: 600, hasPins: true),
        kernel: ScriptSubject(
          subject.container, ram: subject.ram, device: RealScriptDevice(device: subject.device)),
        simulation: ScriptSubject(
          simulated, ram: subject.ram, device: SimulatedScriptDevice(port: port)),
        name: "script of seed \(seed) with pins", into: &result)
    }
    PinningDevice.remove(name)
    return result
  }
}

/// A container with nothing but the lab's mediated device.
final class PinningSubject {
  let ram: GuestRAM
  let raw: RawContainer
  let device: PinningDevice
  let container: Type1Container

  init(_ name: String, ramByteCount: UInt64 = 16 << 20) throws {
    ram = try GuestRAM(layout: GuestLayout(byteCount: ramByteCount))
    raw = try RawContainer(devices: [PinningDevice.path(name)])
    device = PinningDevice(name: name, file: try raw.openDevice(name))
    container = try Type1Test.adopt(raw, [Type1Device(name: name, isMediated: true)])
  }
}

struct RealScriptDevice: ScriptDevice {
  let device: PinningDevice

  func pin(_ page: IOVA) -> Int32 {
    let errno = device.order(.pin, page.rawValue, byteCount: 4096)
    return errno == ContainerErrno.eexist ? 0 : errno
  }

  func unpin(_ page: IOVA) { _ = device.order(.unpin, page.rawValue, byteCount: 4096) }

  func write(_ page: IOVA) -> Bool {
    device.order(.writePinned, page.rawValue, byteCount: 4096, value: page.rawValue) == 0
  }
}

struct SimulatedScriptDevice: ScriptDevice {
  let port: SimulatedDevicePort

  private func range(_ page: IOVA) -> IOVARange {
    AddressRange(first: page, last: page.lastOfPage(.fourKiB))
  }

  func pin(_ page: IOVA) -> Int32 {
    do throws(ContainerError) {
      try port.pin(range(page))
      return 0
    } catch { return error.errno }
  }

  func unpin(_ page: IOVA) { port.unpin(range(page)) }

  func write(_ page: IOVA) -> Bool {
    port.store([UInt8](repeating: 1, count: 8), at: page)
  }
}
