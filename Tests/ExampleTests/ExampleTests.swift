import Addressing
import GuestDirtyLog
import Simulation
import Testing

/// The README's example, with a simulated container behind it. `TidyTests` holds that the README
/// shows `Machine.swift` as it is.
@Suite struct ExampleTests {
  private static let ram = RAMRegion(
    name: "ram", gpa: AddressRange(first: GPA(0), last: GPA(0xf_ffff)))
  private static let buffer = AddressRange(first: IOVA(0x7000_0000), last: IOVA(0x7000_0fff))
  private static let page = GPA(0x5000)

  /// The machine, and its network card's way to memory.
  private static func machine() throws -> (Machine, SimulatedDevicePort) {
    let container = SimulatedIOMMUFD(memory: AnyMemory())
    let port = container.attachDevice("nic", to: container.allocateHWPT("hwpt"))
    return (try Machine(ram: ram, container: container), port)
  }

  @Test func `the example sends what a device wrote to a buffer that was unmapped`() throws {
    let (machine, nic) = try Self.machine()
    try machine.guestMaps(Self.buffer, to: Self.page)
    let reader = try machine.beginMigration()
    var sent: [GPARange] = []
    let send = { (runs: [GPARange]) -> Bool in
      sent = runs
      return true
    }
    #expect(machine.sendRound(reader, isFinal: false, send: send))
    #expect(sent == [Self.ram.gpa])
    #expect(nic.touch(Self.buffer.first) == Self.page)
    try machine.guestUnmaps(Self.buffer)
    #expect(nic.touch(Self.buffer.first) == nil)
    sent = []
    #expect(machine.sendRound(reader, isFinal: true, send: send))
    #expect(sent == [AddressRange(first: Self.page, last: GPA(0x5fff))])
  }

  @Test func `what the example could not send it sends again`() throws {
    let (machine, _) = try Self.machine()
    let reader = try machine.beginMigration()
    #expect(!machine.sendRound(reader, isFinal: false) { _ in false })
    var sent: [GPARange] = []
    #expect(
      machine.sendRound(reader, isFinal: false) { runs in
        sent += runs
        return true
      })
    #expect(sent == [Self.ram.gpa])
    #expect(machine.log.dirtyPageCount(for: reader) == 0)
  }
}

/// Memory whose content nobody asks for.
private final class AnyMemory: SimulatedMemory {
  func write(_ bytes: RawSpan, at gpa: GPA) -> Bool { true }
  func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool { true }
}
