import Snapshot
import Testing

/// The edges of what a payload may hold.
@Suite struct PayloadEdgeTests {
  private func integer(_ bytes: [UInt8]) -> UInt64? {
    var reader = PayloadReader(bytes)
    guard let value = try? reader.integer(), reader.remaining == 0 else { return nil }
    return value
  }

  @Test func `an integer has ten bytes at most, and the tenth is one bit`() {
    let nine = [UInt8](repeating: 0xff, count: 9)
    #expect(integer(nine + [0x01]) == .max)
    #expect(integer(nine + [0x02]) == nil)
    #expect(integer(nine + [0x81]) == nil)
    // Eleven bytes, whose last would be shifted out of the value, or around to its beginning.
    #expect(integer(nine + [0x81, 0x00]) == nil)
    #expect(integer([UInt8](repeating: 0x80, count: 10) + [0x00]) == nil)
    #expect(integer([UInt8](repeating: 0x80, count: 10) + [0x01]) == nil)
    #expect(integer([UInt8](repeating: 0x80, count: 9) + [0x00]) == 0)
    #expect(integer([0x80]) == nil)
  }
}
