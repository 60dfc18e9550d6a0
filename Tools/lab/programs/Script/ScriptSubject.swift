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

/// A call done otherwise than the script says, on one side only: the comparison must notice.
enum ScriptFault: String, CaseIterable {
  /// An unmap that takes no dirty bits along.
  case unmapWithDirty = "unmap-with-dirty"
  /// A read that is left out.
  case query
}

/// A container that a script is run against, and what it answered.
final class ScriptSubject {
  let container: any DMAContainer
  private let ram: GuestRAM
  private let device: (any ScriptDevice)?
  private let fault: ScriptFault?

  init(
    _ container: any DMAContainer, ram: GuestRAM, device: (any ScriptDevice)?,
    fault: ScriptFault? = nil
  ) {
    self.container = container
    self.fault = fault
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
    case .unmap(let range):
      return "ok, \(try container.unmap(range)) bytes"
    case .unmapWithDirty(let range):
      var bitmap = try bitmap(range)
      let byteCount =
        try fault == .unmapWithDirty
        ? container.unmap(range) : container.unmap(reportingInto: &bitmap)
      return "ok, \(byteCount) bytes, dirty \(dirty(bitmap))"
    case .start: try container.dirtyLogs[0].start(logging: [], pageSize: .fourKiB)
    case .stop: try container.dirtyLogs[0].stop()
    case .query(let range):
      var bitmap = try bitmap(range)
      if fault != .query { try container.dirtyLogs[0].query(&bitmap, clear: true) }
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

  /// Dirty pages by their number from the script's base, those of holes included: where the kernel
  /// reports too much, the simulation must too.
  private func dirty(_ bitmap: borrowing QueryBitmap) -> String {
    var runs: [String] = []
    bitmap.forEachDirtyRun { run in
      let first = (run.first.rawValue &- Script.base) / 4096
      let last = (run.last.rawValue &- Script.base) / 4096
      runs.append(first == last ? "\(first)" : "\(first)-\(last)")
    }
    return runs.isEmpty ? "none" : runs.joined(separator: " ")
  }
}

/// Runs one script against both and compares line by line.
enum ScriptComparison {
  static func differences(
    _ script: Script, kernel: ScriptSubject, simulation: ScriptSubject
  ) throws -> [String] {
    var differences: [String] = []
    for (index, call) in script.calls.enumerated() {
      let real = try kernel.answer(call)
      let simulated = try simulation.answer(call)
      if real != simulated {
        differences.append("call \(index), \(call): kernel \(real); simulation \(simulated)")
      }
    }
    return differences
  }

  /// - Parameter fault: planted in the kernel's side; then answers must differ.
  static func run(
    _ script: Script, kernel: ScriptSubject, simulation: ScriptSubject, name: String,
    fault: ScriptFault?, into result: inout LabResult
  ) throws {
    let differences = try differences(script, kernel: kernel, simulation: simulation)
    if let fault {
      result.check("\(name): leaving out \(fault.rawValue) is noticed", !differences.isEmpty)
      return
    }
    for line in differences.prefix(20) { print("  \(line)") }
    result.check(
      "\(name): \(script.calls.count) calls are answered alike", differences.isEmpty,
      "\(differences.count) differ")
  }
}
