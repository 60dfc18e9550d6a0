import Glibc

/// What the lab runs inside its guests: `smudge-lab NAME [ARGUMENT…]`, one name for each test.
///
/// A test prints one line for each thing it checked. Status 0: all held; 1: one did not; 2: usage;
/// 3: it ended early.
@main enum Lab {
  static let tests: [String: @Sendable ([String]) throws -> LabResult] = [
    "probe": { Probe.run($0) }, "type1": { try Type1Test.run($0) },
    "pinning": { try PinningTest.run($0) }, "scale": { try ScaleTest.run($0) },
    "numa": { try NUMATest.run($0) }, "iommufd": { try MockTest.run($0) },
    "configuration": { try ConfigurationTest.run($0) },
    "scale-iommufd": { try IOMMUFDScaleTest.run($0) },
    "scale-edu": { try IOMMUFDScaleTest.runOnEdu($0) },
    "region": { try RegionTest.run($0) },
    "iommufd-edu": { try MockScript.runOnEdu($0) }, "migration": { try MigrationTest.run($0) },
  ]

  static func main() {
    let arguments = Array(CommandLine.arguments.dropFirst())
    guard let name = arguments.first, let test = tests[name] else {
      print("smudge-lab: one of \(tests.keys.sorted().joined(separator: ", "))")
      exit(2)
    }
    do {
      exit(try test(Array(arguments.dropFirst())).status)
    } catch {
      print("not ok \(name) ended early: \(error)")
      exit(3)
    }
  }
}
