import MigrationTransport
import Testing

@Suite struct AddressTests {
  @Test func `each shape of address reads back as it was written`() throws {
    for text in [
      "unix:/run/smudge.sock", "tcp:localhost:4444", "tcp:[::1]:4444", "tcp:10.0.0.1:0", "fd:5",
      "file:/tmp/guest.stream", "file:a:b",
    ] {
      #expect(try MigrationAddress(text).description == text)
    }
    #expect(try MigrationAddress("tcp:[::1]:80") == .tcp(host: "::1", port: 80))
  }

  @Test func `what is no address is refused with the reason`() {
    for text in [
      "", "unix", "unix:", "tcp:host", "tcp:host:65536", "tcp::80", "fd:-1", "fd:x", "http://x",
      "unix:" + String(repeating: "x", count: 108),
    ] {
      let error = #expect(throws: AddressError.self) { try MigrationAddress(text) }
      #expect(error?.text == text && error?.reason.isEmpty == false)
    }
  }
}
