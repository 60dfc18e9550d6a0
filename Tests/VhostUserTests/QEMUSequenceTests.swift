import Addressing
import Locking
import Testing

@testable import VhostUser

/// A front-end that speaks as QEMU was recorded to.
@Suite struct QEMUSequenceTests {
  private static func page(_ number: UInt64) -> GPARange {
    SharedDirtyLogTests.pages(number, number)
  }

  @Test func `a machine boots, resets its device and starts it again`() throws {
    let world = try CompanionWorld("boot")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    #expect(world.delegate.take() == ["connected"])
    #expect(world.companion.status.phase == .connected)
    frontEnd.start(world.regions)
    #expect(world.delegate.take() == ["ram"])
    #expect(world.companion.status.phase == .started && !world.companion.status.wantsLog)
    // SeaBIOS is done with the device, the kernel resets it.
    #expect(frontEnd.stop() == 17)
    #expect(world.delegate.take() == ["stop"])
    #expect(world.companion.status.phase == .stopped && world.companion.status.isQuiet)
    frontEnd.start(world.regions)
    #expect(world.delegate.take() == ["ram", "runs"])
    let file = try FileIdentity(of: world.memory)
    #expect(
      world.companion.ram.place(of: file, offset: 9 << 20, byteCount: 4096)
        == .one(GPARange(first: GPA(4 << 30 + 1 << 20), byteCount: 4096)!))
  }

  @Test func `a migration: log, marks, final sync inside of the stop`() throws {
    let world = try CompanionWorld("migration")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    _ = world.delegate.take()
    let file = LogFile(byteCount: 4096 * 33)
    frontEnd.startLogging(file)
    #expect(world.delegate.take() == ["tracking"])
    #expect(world.companion.status.isTracking)
    let log = world.companion.log
    try log.mark(Self.page(5))
    #expect(file.takePages() == [5])
    world.delegate.stopping { () throws(VhostUserError) in
      try log.mark(SharedDirtyLogTests.pages(1 << 20, 1 << 20 + 1))
    }
    #expect(frontEnd.stop() == 17)
    #expect(file.takePages() == [1 << 20, 1 << 20 + 1])
    #expect(world.delegate.take() == ["stop"])
    // The front-end has read it for the last time: what comes later is lost by name.
    #expect(
      SharedDirtyLogTests.refusal { () throws(VhostUserError) in try log.mark(Self.page(6)) }
        == .noLog(Self.page(6)))
    #expect(file.takePages() == [])
  }

  @Test func `a migration that is cancelled after the stop, and tried again`() throws {
    let world = try CompanionWorld("again")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    let file = LogFile(byteCount: 4096 * 33)
    frontEnd.startLogging(file)
    #expect(frontEnd.stop() == 17)
    _ = world.delegate.take()
    frontEnd.start(world.regions)
    #expect(world.delegate.take() == ["tracking ends", "ram", "runs"])
    #expect(!world.companion.status.isTracking && world.companion.log.pageCount == 0)
    let second = LogFile(byteCount: 4096 * 33)
    frontEnd.startLogging(second)
    #expect(world.delegate.take() == ["tracking"])
    try world.companion.log.mark(Self.page(9))
    frontEnd.endLogging()
    #expect(world.delegate.take() == ["tracking ends"])
    #expect(second.takePages() == [9] && file.takePages() == [])
  }

  @Test func `a VM that was paused before a migration stays stopped, and goes on when it runs`()
    throws
  {
    let world = try CompanionWorld("paused")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    #expect(frontEnd.stop() == 17)
    _ = world.delegate.take()
    // The migration says nothing to a stopped device.
    #expect(world.companion.status.isQuiet && world.companion.status.phase == .stopped)
    frontEnd.start(world.regions)
    #expect(world.delegate.take() == ["ram", "runs"])
    #expect(!world.companion.status.isQuiet)
  }

  @Test func `a guest without a driver runs on after the firmware's reset, as its access shows`()
    throws
  {
    let world = try CompanionWorld("access")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    let companion = world.companion
    #expect(!companion.noteAccess())
    let seen = Mutex<Bool?>(nil)
    world.delegate.stopping { () throws(VhostUserError) in
      // One that was sent before the stop does not end it.
      let ended = companion.noteAccess()
      seen.withLock { $0 = ended }
    }
    #expect(frontEnd.stop() == 17)
    #expect(seen.withLock { $0 } == false)
    #expect(companion.status.isQuiet)
    #expect(companion.noteAccess())
    #expect(!companion.noteAccess() && !companion.status.isQuiet)
    #expect(companion.status.phase == .stopped)
  }

  @Test func `a reset in the middle of a migration goes over to the next log`() throws {
    let world = try CompanionWorld("reset")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    let file = LogFile(byteCount: 4096 * 33)
    frontEnd.startLogging(file)
    let log = world.companion.log
    #expect(frontEnd.stop() == 17)
    #expect(world.companion.noteAccess())
    #expect(
      SharedDirtyLogTests.refusal { () throws(VhostUserError) in try log.mark(Self.page(3)) }
        == .noLog(Self.page(3)))
    // What was refused is marked as soon as there is a log again.
    world.delegate.replacing { try? log.mark(Self.page(3)) }
    _ = world.delegate.take()
    let next = LogFile(byteCount: 4096 * 33)
    frontEnd.start(world.regions, log: (next, LogDescription(byteCount: 4096 * 33, offset: 0)))
    #expect(world.delegate.take() == ["ram", "log replaced"])
    #expect(next.takePages() == [3])
  }

  @Test func `memory is plugged in and out while the front-end logs`() throws {
    let world = try CompanionWorld("plug")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    let file = LogFile(byteCount: 4096)
    frontEnd.startLogging(file)
    let log = world.companion.log
    let far = Self.page(4096 * 8 + 1)
    #expect(
      SharedDirtyLogTests.refusal { () throws(VhostUserError) in try log.mark(far) }
        == .pastLog(far, logPageCount: 4096 * 8))
    _ = world.delegate.take()
    // QEMU makes the log larger first, then tells of the memory.
    let larger = LogFile(byteCount: 8192)
    try log.mark(Self.page(1))
    frontEnd.setLogBase(larger)
    #expect(file.takePages() == [1])
    let (region, memory) = world.region(1 << 27, 1 << 20, at: 12 << 20)
    #expect(frontEnd.ask(.addMemoryRegion(region), [memory]) == 0)
    #expect(world.delegate.take() == ["log replaced", "ram"])
    #expect(world.companion.ram.regions.count == 3 && world.heldCount == 3)
    try log.mark(far)
    #expect(larger.takePages() == [4096 * 8 + 1] && file.takePages() == [])
    #expect(frontEnd.ask(.removeMemoryRegion(region)) == 0)
    #expect(frontEnd.ask(.removeMemoryRegion(region)) == 1)
    #expect(world.companion.ram.regions.count == 2 && world.heldCount == 2)
    // An overlap is refused, and nothing changes.
    #expect(frontEnd.ask(.addMemoryRegion(world.region(0, 4096, at: 0).0), [memory]) == 1)
    #expect(world.heldCount == 2 && world.delegate.take() == ["ram"])
    let table = world.companion.ram
    #expect(frontEnd.ask(.setMemoryTable([]), []) == 0)
    #expect(world.companion.ram.regions.isEmpty && world.heldCount == 2)
    #expect(table.regions.count == 2)
  }

  @Test func `a stop that is refused closes the connection, and the devices run on`() throws {
    let world = try CompanionWorld("refused")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    frontEnd.startLogging(LogFile(byteCount: 4096 * 33))
    world.delegate.stopping { () throws(VhostUserError) in
      throw .stopRefused("the final sync failed")
    }
    #expect(frontEnd.stop() == nil)
    #expect(world.delegate.awaitDisconnection() == .stopRefused("the final sync failed"))
    #expect(world.companion.status.phase == .notConnected && !world.companion.status.isQuiet)
    #expect(world.companion.status.lastDisconnection == .stopRefused("the final sync failed"))
    #expect(world.heldCount == 0)
  }

  /// QEMU before 9.1 ends itself when SET_LOG_BASE fails.
  @Test func `a log that cannot be used is answered, and no stop is`() throws {
    let world = try CompanionWorld("unusable")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    _ = world.delegate.take()
    let file = LogFile(byteCount: 4096, sealing: .never)
    frontEnd.startLogging(file)
    #expect(world.delegate.take() == [])
    #expect(world.companion.status.logFailure == .logNotSealed)
    #expect(frontEnd.stop() == nil)
    #expect(world.delegate.awaitDisconnection() == .unloggedStop)
    #expect(world.delegate.take() == ["disconnected"])
  }
}
