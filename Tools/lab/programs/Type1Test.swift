import Addressing
import DMAContainer
import Simulation
import VFIOKernel

/// Section 3.1: type1 with `edu`, which really writes memory.
enum Type1Test {
  /// - Parameter arguments: a seed, and how many random scripts.
  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    guard let address = EduDevice.addresses().first else { throw LabError("there is no edu") }
    let path = EduDevice.path(address)
    let seed = arguments.first.flatMap { UInt64($0) } ?? 1
    try Type1Errors.run([path], into: &result)
    let scriptCount = arguments.dropFirst().first.flatMap { UInt64($0) } ?? 4
    for seed in seed..<seed + scriptCount {
      let ram = try GuestRAM(layout: GuestLayout(byteCount: 16 << 20))
      let raw = try RawContainer(devices: [path])
      let container = try adopt(raw, [Type1Device(name: address, isMediated: false)])
      let simulated = SimulatedType1(
        memory: ram, validRanges: container.capabilities.validRanges)
      let port = simulated.attachDevice(address)
      try ScriptComparison.run(
        Script(seed: seed, randomCount: 400, hasPins: false),
        kernel: ScriptSubject(container, ram: ram, device: nil),
        simulation: ScriptSubject(simulated, ram: ram, device: nil),
        name: "script of seed \(seed)", into: &result)
      simulated.detach(port)
    }
    try EduWrites.run(address, into: &result)
    return result
  }

  static func adopt(_ raw: RawContainer, _ devices: [Type1Device]) throws -> Type1Container {
    try Type1Container(
      name: "type1",
      adopting: VFIODescriptor(raw.file.descriptor, ownership: .borrowed), devices: devices)
  }
}
