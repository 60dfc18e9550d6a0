import CSmudge
import SmudgeABI
import Testing

struct VersionTests {
  @Test func `the library says what it is`() {
    #expect(smudge_version() == 1 << 16)
  }
}
