import Addressing
import ArgumentParser
import Simulation

/// What source and destination of a sample must agree on.
struct MachineArguments: ParsableArguments {
  @Option(help: "RAM of the sample machine: bytes, or with K, M, G, T (powers of 1024).")
  var memory = "1G"

  @Option(help: "Devices, 1 to 32: network, storage, graphics, accelerator, and again.")
  var devices = 4

  @Option(help: "What everything random is derived from.")
  var seed: UInt64 = 1

  @Option(help: ArgumentHelp("Virtual processors, 1 to 64.", visibility: .hidden))
  var vcpus = 2

  @Option(help: "Seconds to wait for the other side while nothing moves, 1 to 3600.")
  var timeout = 60

  var timeoutMilliseconds: Int { timeout * 1000 }

  func validate() throws {
    guard (1...3600).contains(timeout) else {
      throw ValidationError("--timeout is 1 to 3600 seconds")
    }
    let bytes = try memoryByteCount
    guard (SampleOptions.memoryByteCountMin...SampleOptions.memoryByteCountMax).contains(bytes)
    else { throw ValidationError("--memory is 16M to 1T") }
    guard bytes % (1 << 20) == 0 else { throw ValidationError("--memory is whole MiB") }
    guard (1...SampleOptions.deviceCountMax).contains(devices) else {
      throw ValidationError("--devices is 1 to \(SampleOptions.deviceCountMax)")
    }
    guard (1...SampleOptions.vcpuCountMax).contains(vcpus) else {
      throw ValidationError("--vcpus is 1 to \(SampleOptions.vcpuCountMax)")
    }
  }

  var memoryByteCount: UInt64 { get throws { try ByteCount.parse(memory) } }

  func sampleOptions() throws -> SampleOptions {
    var options = SampleOptions()
    options.memoryByteCount = try memoryByteCount
    options.deviceCount = devices
    options.vcpuCount = vcpus
    options.seed = seed
    return options
  }

  /// As a second process is told.
  var commandLine: [String] {
    [
      "--memory", memory, "--devices", "\(devices)", "--seed", "\(seed)", "--vcpus", "\(vcpus)",
      "--timeout", "\(timeout)",
    ]
  }
}
