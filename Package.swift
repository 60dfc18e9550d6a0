// swift-tools-version: 6.3
import Foundation
import PackageDescription

/// Every Swift target is built with these; a warning is an error, an unmarked unsafe use is too.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path

func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: "\(root)/\(path)") }

/// A module under Sources, with the modules it may import, and its tests where it has any.
func module(_ name: String, _ imports: [String] = [], tests: [String] = []) -> [Target] {
  guard exists("Sources/\(name)") else { return [] }
  let dependencies = imports.filter { exists("Sources/\($0)") }.map {
    Target.Dependency(stringLiteral: $0)
  }
  var targets: [Target] = [
    .target(name: name, dependencies: dependencies, path: "Sources/\(name)", swiftSettings: strict)
  ]
  if exists("Tests/\(name)Tests") {
    let extra = tests.filter { exists("Sources/\($0)") }.map {
      Target.Dependency(stringLiteral: $0)
    }
    targets.append(
      .testTarget(
        name: "\(name)Tests",
        dependencies: dependencies + extra + [.init(stringLiteral: name), "TestSupport"],
        path: "Tests/\(name)Tests", swiftSettings: strict))
  }
  return targets
}

func cModule(_ name: String) -> [Target] {
  guard exists("Sources/\(name)") else { return [] }
  return [
    .target(
      name: name, path: "Sources/\(name)", cSettings: [.unsafeFlags(["-O2", "-Wall", "-Werror"])])
  ]
}

let levels0to3 = [
  "Addressing", "PageBitmap", "IOVAMapping", "DMAContainer", "GuestDirtyLog", "EventTrace",
  "DirtyTracker", "DeviceMigration",
]

/// A tool under Tools.
func tool(_ product: String, _ folder: String, _ imports: [Target.Dependency]) -> [Target] {
  guard exists("Tools/\(folder)") else { return [] }
  return [
    .executableTarget(
      name: product, dependencies: imports, path: "Tools/\(folder)", swiftSettings: strict)
  ]
}

func named(_ modules: [String]) -> [Target.Dependency] {
  modules.filter { exists("Sources/\($0)") }.map { .init(stringLiteral: $0) }
}

var targets: [Target] = []
// level 0
targets += module("Addressing")
targets += cModule("CBitmapKernels")
targets += cModule("CChecksum")
targets += cModule("CSmudgeLinux")
if exists("Sources/CNuma") {
  targets.append(
    .systemLibrary(
      name: "CNuma", path: "Sources/CNuma", pkgConfig: "numa", providers: [.apt(["libnuma-dev"])]))
}
// level 1
targets += module("PageBitmap", ["Addressing", "CBitmapKernels"])
targets += module("IOVAMapping", ["Addressing"])
// level 2
targets += module("DMAContainer", ["Addressing", "PageBitmap", "IOVAMapping"])
targets += module("GuestDirtyLog", ["Addressing", "PageBitmap", "CNuma"])
// level 3
targets += module("EventTrace", ["Addressing", "CChecksum", "IOVAMapping"])
targets += module(
  "DirtyTracker",
  ["Addressing", "PageBitmap", "IOVAMapping", "DMAContainer", "GuestDirtyLog", "EventTrace"],
  tests: ["Simulation"])
targets += module(
  "DeviceMigration",
  ["Addressing", "CChecksum", "PageBitmap", "DMAContainer", "GuestDirtyLog"],
  tests: ["Simulation", "DirtyTracker"])
// level 4
targets += module("MigrationTransport", levels0to3 + ["CSmudgeLinux"])
targets += module("CPUDirty", levels0to3 + ["CSmudgeLinux"])
targets += module("Simulation", levels0to3 + ["CSmudgeLinux", "CPUDirty", "MigrationTransport"])
// level 6
targets += tool(
  "smudge", "smudge",
  named(levels0to3 + ["CSmudgeLinux", "CPUDirty", "MigrationTransport", "Simulation"])
    + [.product(name: "ArgumentParser", package: "swift-argument-parser")])
if exists("Tools/bench/peers") {
  targets.append(.target(name: "CBenchPeers", path: "Tools/bench/peers"))
}
if exists("Tools/bench/main") {
  targets += tool(
    "smudge-bench", "bench/main",
    named(
      levels0to3 + [
        "CSmudgeLinux", "CBitmapKernels", "CPUDirty", "MigrationTransport", "Simulation",
      ])
      + ["CBenchPeers"])
}
// tests that belong to no one module
targets += [
  .target(
    name: "TestSupport",
    dependencies: ["Addressing", "PageBitmap", "IOVAMapping", "DMAContainer"],
    path: "Tests/TestSupport", swiftSettings: strict),
  .testTarget(name: "TidyTests", path: "Tests/TidyTests", swiftSettings: strict),
]

let package = Package(
  name: "smudge",
  products: [],
  dependencies: exists("Tools/smudge")
    ? [.package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")] : [],
  targets: targets,
  cxxLanguageStandard: .cxx17
)
