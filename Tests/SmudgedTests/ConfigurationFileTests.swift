import Testing
import TrackerService

@testable import smudged

@Suite struct ConfigurationFileTests {
  private func refusal(_ text: String) -> String? {
    do throws(ConfigurationError) {
      _ = try ConfigurationFile.parse(text, path: "f")
      return nil
    } catch { return "\(error)" }
  }

  @Test func `what is printed reads back to the same`() throws {
    let vms = [
      VMConfiguration(
        name: "a \"b\" \\ é",
        devices: [
          DeviceConfiguration(name: "d", vmmSocket: "/v", serverSocket: "/s", way: .messages)
        ], companion: "/c", peer: "unix:/p", observe: "/o", isStrict: true,
        syncPeriodMilliseconds: 7, omissions: [.unmap, .lateLookup]),
      VMConfiguration(name: "b", companion: "/c2"),
    ]
    #expect(try ConfigurationFile.parse(ConfigurationText.of(vms), path: "f") == vms)
  }

  @Test func `what is wrong is named by its line`() {
    let head = "# x\n[[vm]]\nname = 'a'\ncompanion = '/c'\n"
    #expect(refusal(head) == nil)
    #expect(
      refusal(head + "compnaion = 1\n")
        == "f line 5: unknown key \"compnaion\"; did you mean \"companion\"?")
    let way = refusal(head + "[[vm.device]]\nvmm = '/v'\nserver = '/s'\nway = 'logs'\n")
    #expect(way == "f line 8: way \"logs\" is unknown; did you mean \"log\"?")
    #expect(refusal(head + "strict = 1\n")?.hasPrefix("f line 5: strict is a whole") == true)
    #expect(refusal("[[vm]]\nname = 'a'\n") == "f line 1: companion is missing; add it")
    #expect(refusal("[[vm]\n")?.hasPrefix("f line 1: it is not TOML") == true)
    #expect(refusal("")?.contains("there is no VM") == true)
  }
}
