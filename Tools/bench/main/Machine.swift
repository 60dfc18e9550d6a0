import Foundation
import PageBitmap

/// Where the numbers were taken.
struct Machine: Codable {
  let cpu: String
  let cores: Int
  let memoryGiB: Int
  let system: String
  let kernels: String
  /// Runnable tasks in the last minute, at the start: above a core's worth the times are suspect.
  let load: String

  static func current() -> Machine {
    func read(_ path: String) -> String {
      (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    }
    let model = read("/proc/cpuinfo").split(separator: "\n").first { $0.hasPrefix("model name") }
    let cpu = model?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) }
    let information = ProcessInfo.processInfo
    return Machine(
      cpu: cpu ?? "unknown CPU", cores: information.processorCount,
      memoryGiB: Int(information.physicalMemory >> 30),
      system: information.operatingSystemVersionString, kernels: KernelLevel.name,
      load: read("/proc/loadavg").split(separator: " ").first.map(String.init) ?? "unknown")
  }
}
