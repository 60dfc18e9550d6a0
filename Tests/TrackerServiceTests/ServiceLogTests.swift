import Testing

@testable import TrackerService

@Suite struct ServiceLogTests {
  @Test func `text of others stays in its line, and a line is cut`() {
    let line = ServiceLog.line(.warning, vm: "a", "x\ny\u{1b}[2J", .plain)
    #expect(line == "smudged: warning: a: x\\ny\\u{1b}[2J")
    #expect(ServiceLog.line(.error, vm: nil, "x", .journal) == "<3>x")
    let long = ServiceLog.line(.info, vm: nil, String(repeating: "é", count: 5_000), .plain)
    #expect(long.count == 2_000 && long.hasSuffix("..."))
  }

  @Test func `inherited sockets are this process's, by name`() throws {
    let found = try InheritedSockets.read(pid: "7", count: "2", names: "a:b", own: 7)
    let sockets = InheritedSockets(found)
    #expect(sockets.take(named: "b") == 4 && sockets.take(named: "b") == nil)
    #expect(sockets.names == ["a"])
    #expect(try InheritedSockets.read(pid: "8", count: "2", names: nil, own: 7).isEmpty)
    #expect(throws: ConfigurationError.self) {
      try InheritedSockets.read(pid: "7", count: "x", names: nil, own: 7)
    }
    #expect(throws: ConfigurationError.self) {
      try InheritedSockets.read(pid: "7", count: "2", names: "a", own: 7)
    }
  }

  @Test func `nothing is sent where nobody wants to know, and a failure is said`() {
    #expect(ServiceNotification(address: nil).ready(status: "x") == .notWanted)
    #expect(ServiceNotification(address: "/no/such").stopping() == .failed(errno: 2))
  }
}
