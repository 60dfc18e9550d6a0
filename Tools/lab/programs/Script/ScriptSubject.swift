import Addressing
import DMAContainer
import GuestDirtyLog
import PageBitmap
import Simulation

/// What does the calls of a script for a mediated device.
protocol ScriptDevice {
  /// 0, or an errno. Pinned already is 0.
  func pin(_ page: IOVA) -> Int32
  func unpin(_ page: IOVA)
  /// Through a pinned page.
  func write(_ page: IOVA) -> Bool
}

/// A container that a script is run against, and what it answered.
final class ScriptSubject {
  let container: any DMAContainer
  private let ram: GuestRAM
  private let device: (any ScriptDevice)?
  private var mapped: [IOVARange] = []

  init(_ container: any DMAContainer, ram: GuestRAM, device: (any ScriptDevice)?) {
    self.container = container
    self.ram = ram
    self.device = device
  }

  func answer(_ call: ScriptCall) throws -> String {
    do {
      return try answerOrThrow(call)
    } catch let error as ContainerError {
      return ContainerErrno.name(error.errno) + (error.isPartial ? " (partial)" : "")
    }
  }

  private func answerOrThrow(_ call: ScriptCall) throws -> String {
    switch call {
    case .map(let iova, let gpa, let permissions):
      let hva = ram.ramRegions[0].hvaFirst?.advanced(byBytes: gpa.rawValue)
      try container.map(
        MapRequest(iova: iova, gpaFirst: gpa, hvaFirst: hva, permissions: permissions))
      mapped.append(iova)
    case .unmap(let range):
      let byteCount = try container.unmap(range)
      mapped.removeAll { range.contains($0) }
      return "ok, \(byteCount) bytes"
    case .unmapWithDirty(let range):
      var bitmap = try bitmap(range)
      let byteCount = try container.unmap(reportingInto: &bitmap)
      let answer = "ok, \(byteCount) bytes, dirty \(dirty(bitmap))"
      mapped.removeAll { range.contains($0) }
      return answer
    case .start: try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    case .stop: try container.dirtyLogs[0].stop()
    case .query(let range):
      var bitmap = try bitmap(range)
      try container.dirtyLogs[0].query(&bitmap, clear: true)
      return "ok, dirty \(dirty(bitmap))"
    case .pin(let page): return ContainerErrno.name(device?.pin(page) ?? 0)
    case .unpin(let page): device?.unpin(page)
    case .write(let page): return device?.write(page) == true ? "written" : "refused"
    }
    return "ok"
  }

  private func bitmap(_ range: IOVARange) throws -> QueryBitmap {
    var bitmap = try QueryBitmap(byteCountMax: 1 << 20)
    try bitmap.reset(window: range, pageSize: .fourKiB)
    return bitmap
  }

  /// Dirty pages by their number from the script's base. What is not mapped is left out: bits there
  /// have no meaning and the kernel may set them.
  private func dirty(_ bitmap: borrowing QueryBitmap) -> String {
    var runs: [String] = []
    for range in mapped.sorted(by: { $0.first < $1.first }) {
      var from = range.first
      while let run = bitmap.nextDirtyRun(from: from, through: range.last) {
        let first = (run.first.rawValue &- Script.base) / 4096
        let last = (run.last.rawValue &- Script.base) / 4096
        runs.append(first == last ? "\(first)" : "\(first)-\(last)")
        guard run.last < range.last else { break }
        from = IOVA(run.last.rawValue + 1)
      }
    }
    return runs.isEmpty ? "none" : runs.joined(separator: " ")
  }
}

/// Runs one script against both and compares line by line.
enum ScriptComparison {
  static func run(
    _ script: Script, kernel: ScriptSubject, simulation: ScriptSubject, name: String,
    into result: inout LabResult
  ) throws {
    var differences: [String] = []
    for (index, call) in script.calls.enumerated() {
      let real = try kernel.answer(call)
      let simulated = try simulation.answer(call)
      if real != simulated {
        differences.append("call \(index), \(call): kernel \(real); simulation \(simulated)")
      }
    }
    for line in differences.prefix(20) { print("  \(line)") }
    result.check(
      "\(name): \(script.calls.count) calls are answered alike", differences.isEmpty,
      "\(differences.count) differ")
  }
}
