import Testing

@testable import TrackerService

@Suite struct ConfigurationTests {
  static let vm = VMConfiguration(
    name: "a", devices: [DeviceConfiguration(name: "d", vmmSocket: "/v", serverSocket: "/s")],
    companion: "/c")

  private func problem(_ vms: [VMConfiguration]) -> ConfigurationError.Problem? {
    do throws(ConfigurationError) {
      try VMConfiguration.check(vms, whole: .option("--vm"), place: ConfigurationPlace.option(of:))
      return nil
    } catch { return error.problem }
  }

  private func problem(_ change: (inout VMConfiguration) -> Void) -> ConfigurationError.Problem? {
    var vm = Self.vm
    change(&vm)
    return problem([vm])
  }

  @Test func `each rule refuses what breaks it, and nothing else`() {
    #expect(problem([Self.vm]) == nil)
    #expect(problem([]) == .noVM)
    #expect(problem { $0.name = "" } == .empty(.name))
    #expect(problem { $0.name = "a\u{1b}" } == .controlCharacter(.name, value: "a\u{1b}"))
    #expect(problem { $0.companion = String(repeating: "x", count: 107) } == nil)
    let long = String(repeating: "x", count: 108)
    #expect(problem { $0.companion = long } == .pathTooLong(long))
    #expect(problem { $0.observe = "//c" } == .pathUsedTwice("//c", also: .option("--companion")))
    #expect(problem { $0.syncPeriodMilliseconds = 0 } == .periodOutOfRange(0))
    #expect(problem { $0.syncPeriodMilliseconds = 60_000 } == nil)
    #expect(problem { $0.peer = "tcp:host:1" } == nil)
    #expect(problem { $0.peer = "nowhere" } != nil)
    #expect(problem { $0.peer = "file:/x" } != nil)
    #expect(problem { $0.devices.append($0.devices[0]) } == .nameUsedTwice("d"))
    var second = VMConfiguration(name: "a", companion: "/other")
    #expect(problem([Self.vm, second]) == .nameUsedTwice("a"))
    second.name = "b"
    #expect(problem([Self.vm, second]) == nil)
  }

  @Test func `the nearest name is named, and none where nothing is similar`() {
    let names = ConfigurationKey.ofVM.map(\.rawValue)
    #expect(NearestName.of("compnaion", in: names) == "companion")
    #expect(NearestName.of("sync_period", in: names) == "sync-period")
    #expect(NearestName.of("zzzzzzzz", in: names) == nil)
  }
}
