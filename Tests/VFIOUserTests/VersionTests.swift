import Testing
import VFIOUser

/// The text of VERSION.
@Suite struct VersionTests {
  static func decode(_ text: String, terminated: Bool = true) throws(VFIOUserError)
    -> VersionCapabilities
  {
    let bytes: [UInt8] = [0, 0, 1, 0] + Array(text.utf8) + (terminated ? [0] : [])
    return try VersionMessage(decoding: bytes).capabilities
  }

  @Test func `what libvfio-user answers is understood`() throws {
    let capabilities = try Self.decode(
      #"{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"#
        + #""migration":{"pgsize":4096}}}"#
    )
    #expect(
      capabilities
        == VersionCapabilities(
          descriptorCountMax: 8, dataByteCountMax: 1 << 20, migrationPageSize: 4096))
    #expect(capabilities.limits == MessageLimits(descriptorCountMax: 8))
  }

  @Test func `without a text the defaults hold`() throws {
    let bare = try VersionMessage(decoding: [0, 0, 2, 0])
    #expect(bare.minor == 2 && bare.capabilities == VersionCapabilities())
    #expect(bare.capabilities.limits == MessageLimits(descriptorCountMax: 1))
    #expect(try Self.decode("{}") == VersionCapabilities())
    #expect(try Self.decode(#"{"capabilities":{}}"#) == VersionCapabilities())
    #expect(try Self.decode("") == VersionCapabilities())
  }

  @Test func `keys that are not known are left out of account`() throws {
    let text =
      #"{"other":[1,{"a":null}],"capabilities":{"new":{"deep":[1.5]},"max_msg_fds":3}, "x":"y"} "#
    #expect(try Self.decode(text) == VersionCapabilities(descriptorCountMax: 3))
  }

  @Test(arguments: [
    #"{"capabilities":[]}"#, #"{"capabilities":null}"#, #"{"capabilities":7}"#,
    #"{"capabilities":{"max_msg_fds":"8"}}"#, #"{"capabilities":{"max_msg_fds":8.0}}"#,
    #"{"capabilities":{"max_msg_fds":-1}}"#, #"{"capabilities":{"max_msg_fds":1025}}"#,
    #"{"capabilities":{"max_msg_fds":null}}"#, #"{"capabilities":{"max_msg_fds":true}}"#,
    #"{"capabilities":{"max_data_xfer_size":0}}"#,
    #"{"capabilities":{"max_data_xfer_size":[]}}"#,
    #"{"capabilities":{"max_dma_maps":"many"}}"#, #"{"capabilities":{"pgsizes":{}}}"#,
    #"{"capabilities":{"twin_socket":true}}"#,
    #"{"capabilities":{"twin_socket":{"supported":1}}}"#,
    #"{"capabilities":{"twin_socket":{"supported":true,"fd_index":-1}}}"#,
    #"{"capabilities":{"write_multiple":"yes"}}"#, #"{"capabilities":{"migration":4096}}"#,
    #"{"capabilities":{"migration":{"pgsize":"4096"}}}"#,
    #"{"capabilities":{"dirty_ranges":1}}"#,
    "[]", "7", "\"text\"", "null", "{", "{}}", "{} x", "{\"a\":}", "nonsense",
    String(repeating: "{\"capabilities\":", count: 40) + "1" + String(repeating: "}", count: 40),
    "{\"a\":\"" + String(repeating: "b", count: 20_000) + "\"}", "{}\0{}",
  ])
  func `a text that is not one, or a key of another type, is EINVAL`(text: String) {
    do throws(VFIOUserError) {
      let capabilities = try Self.decode(text)
      Issue.record("\(text.prefix(60)) gave \(capabilities)")
    } catch {
      #expect(error.reason == .malformed && error.errno == 22)
    }
  }

  @Test func `a text without its NUL is EINVAL`() {
    #expect(throws: VFIOUserError.self) { try Self.decode("{}", terminated: false) }
    #expect(throws: VFIOUserError.self) { try VersionMessage(decoding: [0, 0, 1]) }
  }

  @Test func `a peer that says a huge limit gets no more than this side ever sends`() throws {
    let capabilities = try Self.decode(
      #"{"capabilities":{"max_data_xfer_size":9223372036854775807}}"#)
    #expect(capabilities.limits.dataByteCountMax == 64 << 20)
    // More than an integer holds is the largest.
    let past = try Self.decode(#"{"capabilities":{"max_dma_maps":18446744073709551615}}"#)
    #expect(past.mappingCountMax == Int.max)
  }
}
