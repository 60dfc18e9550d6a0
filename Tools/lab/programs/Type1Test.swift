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
    // Where the IOMMU's reach ends; nil where it has all 64 bits.
    let ranges = try adopt(
      RawContainer(devices: [path]), [Type1Device(name: address, isMediated: false)]
    ).capabilities.validRanges
    let end = ranges.map(\.last).max()?.rawValue ?? UInt64.max
    try Type1Errors.run([path], pastReach: end == UInt64.max ? nil : end + 1, into: &result)
    let scriptCount = arguments.dropFirst().first.flatMap { UInt64($0) } ?? 4
    for seed in seed..<seed + scriptCount {
      try runScript(seed, address, fault: nil, into: &result)
    }
    try runScript(seed, address, fault: .unmapWithDirty, into: &result)
    try runScript(seed, address, fault: .query, into: &result)
    try EduWrites.run(address, into: &result)
    return result
  }

  private static func runScript(
    _ seed: UInt64, _ address: String, fault: ScriptFault?, into result: inout LabResult
  ) throws {
    let ram = try GuestRAM(layout: GuestLayout(byteCount: 16 << 20))
    let raw = try RawContainer(devices: [EduDevice.path(address)])
    let container = try adopt(raw, [Type1Device(name: address, isMediated: false)])
    let simulated = SimulatedType1(
      memory: ram, validRanges: container.capabilities.validRanges, keepsStaleBits: true)
    let port = simulated.attachDevice(address)
    try ScriptComparison.run(
      Script(seed: seed, randomCount: 400, hasPins: false),
      kernel: ScriptSubject(container, ram: ram, device: nil, fault: fault),
      simulation: ScriptSubject(simulated, ram: ram, device: nil),
      name: "script of seed \(seed)", fault: fault, into: &result)
    simulated.detach(port)
  }

  static func adopt(
    _ raw: RawContainer, _ devices: [Type1Device], calls: any VFIOCalls = LinuxVFIOCalls()
  ) throws -> Type1Container {
    try Type1Container(
      name: "type1",
      adopting: VFIODescriptor(raw.file.descriptor, ownership: .borrowed, calls: calls),
      devices: devices)
  }
}
