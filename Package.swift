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

/// A module under Sources, with the modules it may import, and its tests with what they need more.
func module(_ name: String, _ imports: [String] = [], tests: [String]? = []) -> [Target] {
  let dependencies = named(imports)
  var targets: [Target] = [
    .target(name: name, dependencies: dependencies, path: "Sources/\(name)", swiftSettings: strict)
  ]
  if let tests {
    targets.append(
      .testTarget(
        name: "\(name)Tests", dependencies: dependencies + named(tests + [name, "TestSupport"]),
        path: "Tests/\(name)Tests", swiftSettings: strict))
  }
  return targets
}

func cModule(_ name: String) -> Target {
  .target(
    name: name, path: "Sources/\(name)", cSettings: [.unsafeFlags(["-O2", "-Wall", "-Werror"])])
}

/// A tool under Tools.
func tool(_ product: String, _ folder: String, _ imports: [Target.Dependency]) -> Target {
  .executableTarget(
    name: product, dependencies: imports, path: "Tools/\(folder)", swiftSettings: strict)
}

func named(_ modules: [String]) -> [Target.Dependency] { modules.map { .init(stringLiteral: $0) } }

let levels0to3 = [
  "Addressing", "Locking", "PageBitmap", "IOVAMapping", "DMAContainer", "GuestDirtyLog",
  "Snapshot", "EventTrace", "DirtyTracker", "DeviceMigration",
]
let level4 = [
  "TraceReplay", "MigrationTransport", "NodeThreads", "CPUDirty", "IOMMUFD", "VFIOKernel",
  "VFIOUser", "VhostUser", "Simulation",
]

/// What the benchmark measures against. A peer whose package is not installed is replaced by a file
/// that says so, so that everything builds without them.
func benchPeers() -> Target {
  func installed(_ paths: String...) -> Bool {
    paths.allSatisfy { FileManager.default.fileExists(atPath: $0) }
  }
  let machine = installed("/usr/lib/aarch64-linux-gnu") ? "aarch64" : "x86_64"
  let libraries = "/usr/lib/\(machine)-linux-gnu"
  var absent: [String] = []
  var flags = ["-O3", "-Wall", "-Werror"]
  var linked: [LinkerSetting] = []
  if installed(
    "/usr/include/absl/container/btree_map.h", "\(libraries)/libabsl_throw_delegate.so",
    "/usr/include/c++")
  {
    absent.append("missing_absl_btree.c")
    linked += ["absl_throw_delegate", "absl_raw_logging_internal"].map { .linkedLibrary($0) }
  } else {
    absent.append("absl_btree.cpp")
  }
  if installed("/usr/include/glib-2.0/glib.h", "\(libraries)/libglib-2.0.so") {
    absent.append("missing_glib_tree.c")
    flags += ["-I/usr/include/glib-2.0", "-I\(libraries)/glib-2.0/include"]
    linked.append(.linkedLibrary("glib-2.0"))
  } else {
    absent.append("glib_tree.c")
  }
  return .target(
    name: "CBenchPeers", path: "Tools/bench/peers", exclude: absent,
    cSettings: [.unsafeFlags(flags)], cxxSettings: [.unsafeFlags(["-O3"])],
    linkerSettings: linked)
}

var targets: [Target] = []
// level 0
targets += module("Addressing")
targets += module("Locking", tests: ["Simulation", "CBitmapKernels"])
targets += ["CBitmapKernels", "CChecksum", "CSmudgeLinux"].map(cModule)
targets.append(
  .systemLibrary(
    name: "CNuma", path: "Sources/CNuma", pkgConfig: "numa", providers: [.apt(["libnuma-dev"])]))
targets.append(
  .systemLibrary(
    name: "COpenSSL", path: "Sources/COpenSSL", pkgConfig: "openssl",
    providers: [.apt(["libssl-dev"])]))
targets.append(
  .systemLibrary(
    name: "CJSON", path: "Sources/CJSON", pkgConfig: "json-c",
    providers: [.apt(["libjson-c-dev"])]))
// level 1
targets += module(
  "PageBitmap", ["Addressing", "Locking", "CBitmapKernels"], tests: ["IOVAMapping"])
targets += module("IOVAMapping", ["Addressing", "Locking", "CBitmapKernels"])
// level 2
targets += module("DMAContainer", ["Addressing", "Locking", "PageBitmap", "IOVAMapping"])
targets += module(
  "GuestDirtyLog", ["Addressing", "Locking", "PageBitmap", "CNuma"], tests: ["IOVAMapping"])
// level 3
targets += module("Snapshot", ["Addressing", "CChecksum", "GuestDirtyLog"], tests: nil)
targets += module(
  "EventTrace", ["Addressing", "Locking", "IOVAMapping", "GuestDirtyLog", "Snapshot"],
  tests: ["CChecksum"])
targets += module(
  "DirtyTracker",
  [
    "Addressing", "Locking", "PageBitmap", "IOVAMapping", "DMAContainer", "GuestDirtyLog",
    "Snapshot", "EventTrace",
  ],
  tests: ["Simulation", "DeviceMigration", "TraceReplay"])
targets += module(
  "DeviceMigration",
  ["Addressing", "Locking", "CChecksum", "PageBitmap", "DMAContainer", "GuestDirtyLog"],
  tests: ["Simulation", "DirtyTracker"])
// level 4
targets += module("MigrationTransport", levels0to3 + ["CSmudgeLinux", "COpenSSL"])
targets += module(
  "TraceReplay",
  [
    "Addressing", "Locking", "PageBitmap", "IOVAMapping", "DMAContainer", "GuestDirtyLog",
    "Snapshot", "EventTrace", "DirtyTracker",
  ], tests: nil)
targets += module("NodeThreads", levels0to3 + ["CNuma"])
targets += module(
  "CPUDirty", levels0to3 + ["CSmudgeLinux"], tests: ["KernelTestSupport", "Simulation"])
targets += module(
  "IOMMUFD",
  ["Addressing", "Locking", "PageBitmap", "IOVAMapping", "DMAContainer", "CSmudgeLinux"],
  tests: ["Simulation", "DirtyTracker", "GuestDirtyLog"])
targets += module(
  "VFIOKernel", levels0to3 + ["CSmudgeLinux"],
  tests: ["Simulation", "CKernelHeaders"])
targets += module(
  "VFIOUser", levels0to3 + ["CSmudgeLinux", "CJSON"], tests: ["Simulation"])
targets += module(
  "VhostUser", ["Addressing", "Locking", "CSmudgeLinux"], tests: ["Simulation", "CTestLinux"])
targets += module(
  "Simulation",
  levels0to3 + ["CSmudgeLinux", "CPUDirty", "MigrationTransport", "NodeThreads"])
// level 5
targets += ["CSmudge"].map(cModule)
targets += module(
  "SmudgeABI",
  levels0to3 + ["CSmudge", "CSmudgeLinux", "IOMMUFD", "VFIOKernel"],
  tests: ["Simulation"])
targets += module(
  "TrackerService",
  levels0to3 + ["CSmudgeLinux", "MigrationTransport", "VFIOUser", "VhostUser"],
  tests: ["Simulation", "CTestLinux"])
// level 6
targets += [
  tool(
    "smudge", "smudge",
    named(levels0to3 + level4) + [
      .product(name: "ArgumentParser", package: "swift-argument-parser")
    ]),
  tool(
    "smudged", "smudged",
    named(["TrackerService"]) + [
      .product(name: "ArgumentParser", package: "swift-argument-parser"),
      .product(name: "TOMLKit", package: "TOMLKit"),
    ]),
  benchPeers(),
  tool(
    "smudge-bench", "bench/main",
    named(
      levels0to3 + level4
        + ["CSmudgeLinux", "CBitmapKernels", "CBenchPeers", "CSmudge", "SmudgeABI"])),
  // The faults that the tests have to notice, see Tools/faults/run.
  .target(name: "FaultTable", path: "Tools/faults/table", swiftSettings: strict),
  tool("smudge-faults", "faults/main", named(["FaultTable"])),
  // What the lab runs in its guests, see Tools/lab/test.
  tool(
    "smudge-lab", "lab/programs",
    named(
      levels0to3 + level4 + ["CSmudgeLinux", "CNuma", "KernelTestSupport", "TestSupport"])),
]
// tests that belong to no one module
targets += [
  .target(
    name: "CKernelHeaders", dependencies: ["CSmudgeLinux"], path: "Tests/CKernelHeaders",
    cSettings: [.unsafeFlags(["-Wall", "-Werror"])]),
  .target(
    name: "CTestLinux", path: "Tests/CTestLinux",
    cSettings: [.unsafeFlags(["-O2", "-Wall", "-Werror"])]),
  .target(
    name: "KernelTestSupport",
    dependencies: named(["Addressing", "CSmudgeLinux", "CTestLinux", "GuestDirtyLog", "IOMMUFD"]),
    path: "Tests/KernelTestSupport", swiftSettings: strict),
  .target(
    name: "TestSupport",
    dependencies: named([
      "Addressing", "Locking", "PageBitmap", "IOVAMapping", "DMAContainer", "DeviceMigration",
      "Simulation",
    ]),
    path: "Tests/TestSupport", swiftSettings: strict),
  .testTarget(
    name: "ExampleTests",
    dependencies: named([
      "Addressing", "DMAContainer", "DirtyTracker", "GuestDirtyLog", "Simulation",
    ]),
    path: "Tests/ExampleTests", swiftSettings: strict),
  .testTarget(
    name: "TidyTests", dependencies: named(["FaultTable"]), path: "Tests/TidyTests",
    swiftSettings: strict),
  .testTarget(
    name: "SystemTests",
    dependencies: named(["smudge", "MigrationTransport", "TestSupport"] + levels0to3),
    path: "Tests/SystemTests", swiftSettings: strict),
  .testTarget(
    name: "SmudgedTests", dependencies: named(["smudged", "TrackerService", "Locking"]),
    path: "Tests/SmudgedTests", swiftSettings: strict),
]

let package = Package(
  name: "smudge",
  products: [
    .library(
      name: "Smudge",
      targets: levels0to3 + [
        "TraceReplay", "MigrationTransport", "NodeThreads", "CPUDirty", "IOMMUFD", "VFIOKernel",
        "VFIOUser", "VhostUser", "TrackerService",
      ]),
    // Of it Tools/install makes libsmudge.so.
    .library(name: "SmudgeABI", type: .dynamic, targets: ["SmudgeABI"]),
    .executable(name: "smudge", targets: ["smudge"]),
    .executable(name: "smudged", targets: ["smudged"]),
    .executable(name: "smudge-bench", targets: ["smudge-bench"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
  ],
  targets: targets,
  cxxLanguageStandard: .cxx17
)
