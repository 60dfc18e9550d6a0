import FaultTable
import Foundation

/// smudge-faults list PACKAGE          a line each: number, name, module, tests, why it survives
/// smudge-faults plant PACKAGE COPY    writes the package with all of them to COPY
@main struct SmudgeFaults {
  static func main() {
    do {
      try run(Array(CommandLine.arguments.dropFirst()))
    } catch {
      FileHandle.standardError.write(Data("smudge-faults: \(error)\n".utf8))
      exit(1)
    }
  }

  private static func run(_ arguments: [String]) throws {
    guard arguments.count > 1 else {
      throw FaultTableError(description: "list PACKAGE, or plant PACKAGE COPY")
    }
    let package = URL(fileURLWithPath: arguments[1])
    let faults = try FaultTable.read(
      folder: package.appendingPathComponent("Tools/faults/entries"))
    switch (arguments[0], arguments.count) {
    case ("list", 2):
      for (index, fault) in faults.enumerated() {
        let tests = fault.tests.joined(separator: " ")
        print(index + 1, fault.name, fault.module, tests, fault.survives ?? "", separator: "\t")
      }
    case ("plant", 3):
      try FaultTree(package: package, copy: URL(fileURLWithPath: arguments[2])).plant(faults)
    default: throw FaultTableError(description: "list PACKAGE, or plant PACKAGE COPY")
    }
  }
}
