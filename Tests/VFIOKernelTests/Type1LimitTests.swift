import Addressing
import DMAContainer
import PageBitmap
import TestSupport
import Testing
import VFIOKernel

/// What a container can not do, in words.
@Suite struct Type1LimitTests {
  @Test func `the end of the mappings is announced twice before it comes, then named`() throws {
    let world = try Type1World(.pinned, dmaEntryLimit: 1000)
    var warned: [(count: Int, sentence: String)] = []
    for count in 1...1000 as ClosedRange<UInt64> {
      try world.map(count * 2, 1)
      warned += world.container.takeWarnings().map { (Int(count), $0) }
    }
    #expect(warned.map(\.count) == [900, 990])
    #expect(warned.first?.sentence.contains("room for 100 more mappings of 1000") == true)
    let error = #expect(throws: ContainerError.self) { try world.map(5000, 1) }
    #expect(error?.errno == ContainerErrno.enospc)
    for word in ["1000 mappings", "merge", "bigger pages", "iommufd"] {
      #expect(error?.description.contains(word) == true, "\(word)")
    }
    // With room again it is announced again when that goes.
    for count in 1...500 as ClosedRange<UInt64> {
      try world.container.unmap(Type1World.range(count * 2, 1))
    }
    for count in 1...400 as ClosedRange<UInt64> { try world.map(count * 2, 1) }
    #expect(world.container.takeWarnings().count == 1)
  }

  @Test func `a guest that maps and unmaps all the time costs no questions`() throws {
    let world = try Type1World(.pinned, dmaEntryLimit: 1000)
    world.kernel.plan(nil)
    for _ in 0..<10_000 {
      try world.map(1, 1)
      try world.container.unmap(Type1World.range(1, 1))
    }
    #expect(world.kernel.calls(.getInformation).count <= 12)
    #expect(world.container.takeWarnings() == [])
  }

  /// An error of the kernel, by an ordinal that hits the call.
  static func error(
    _ errno: Int32, _ operation: ContainerError.Operation
  ) throws -> ContainerError? {
    let world = try Type1World(.pinned)
    try world.map(0x100, 4)
    let log = world.container.dirtyLogs[0]
    if operation != .startLog { try log.start(logging: [], pageSize: .fourKiB) }
    world.kernel.plan(.init(ordinal: 1, errno: errno, moment: .before))
    var bitmap = ContainerDriver.bitmap(Type1World.range(0x100, 4))
    do throws(ContainerError) {
      switch operation {
      case .map: try world.map(0x200, 1)
      case .unmap: try world.container.unmap(Type1World.range(0x100, 4))
      case .unmapWithDirty: try world.container.unmap(reportingInto: &bitmap)
      case .startLog: try log.start(logging: [], pageSize: .fourKiB)
      case .stopLog: try log.stop()
      case .query: try log.query(&bitmap, clear: true)
      case .invalidateAddresses: try world.container.invalidateAddresses(in: .wholeSpace)
      case .updateAddress:
        try world.container.updateAddress(of: Type1World.range(0x100, 4), to: HVA(0x1000))
      }
      return nil
    } catch {
      return error
    }
  }

  @Test(arguments: [
    (ContainerError.Operation.map, ContainerErrno.eexist, "it overlaps a mapping there is"),
    (.map, ContainerErrno.enospc, "the container holds its 65535 mappings (dma_entry_limit)"),
    (.map, ContainerErrno.enomem, "RLIMIT_MEMLOCK"), (.map, ContainerErrno.efault, "be pinned"),
    (.map, ContainerErrno.eoverflow, "wraps"),
    (.unmap, ContainerErrno.einval, "it cuts a mapping"),
    (.invalidateAddresses, ContainerErrno.ebusy, "a mediated device is attached"),
    (.updateAddress, ContainerErrno.enoent, "nothing is mapped there"),
    (.unmap, ContainerErrno.enoent, "it cuts a mapping"),
    (.unmap, ContainerErrno.ebusy, "a device holds pages of it"),
    (.unmapWithDirty, ContainerErrno.efault, "mappings before that point are gone"),
    (.query, ContainerErrno.efault, "what was read before that point is cleared"),
    (.query, ContainerErrno.einval, "the window cuts a mapping"),
    (.startLog, ContainerErrno.enomem, "the log stays off"),
    (.startLog, ContainerErrno.eacces, "not of type1 v2"),
    (.stopLog, ContainerErrno.enotty, "no such log"),
  ])
  func `what the kernel says is said in words`(
    operation: ContainerError.Operation, errno: Int32, sentence: String
  ) throws {
    let error = try Self.error(errno, operation)
    #expect(error?.operation == operation)
    #expect(error?.errno == errno)
    #expect(error?.description.contains(sentence) == true, "\(error as Any)")
    #expect(error?.description.contains(ContainerErrno.name(errno)) == true)
  }

  /// What was refused before anything happened is whole; of the rest nothing is known.
  @Test func `only errors of checks leave everything mapped for certain`() throws {
    for operation in [ContainerError.Operation.unmap, .unmapWithDirty] {
      for errno in [22, 75, 25, 2] as [Int32] {
        #expect(try Self.error(errno, operation)?.isPartial == false, "\(operation) \(errno)")
      }
      for errno in [14, 16, 5, 12, 4] as [Int32] {
        #expect(try Self.error(errno, operation)?.isPartial == true, "\(operation) \(errno)")
      }
    }
  }

  @Test func `a map of what can not be says why`() throws {
    let world = try Type1World(.everythingMapped)
    let memory = world.fake.hvaFirst
    func detail(
      _ first: UInt64, _ count: UInt64, hva: HVA? = nil, _ permissions: Permissions = .readWrite
    ) -> String? {
      do throws(ContainerError) {
        try world.container.map(
          MapRequest(
            iova: IOVARange(first: IOVA(first), byteCount: count)!, gpaFirst: world.ram.gpa.first,
            hvaFirst: hva ?? memory, permissions: permissions))
        return nil
      } catch {
        return error.detail
      }
    }
    #expect(detail(0x1800, 0x1000) == "not whole pages of 4 KiB")
    #expect(detail(0x1000, 0x800) == "not whole pages of 4 KiB")
    #expect(
      detail(0x1000, 0x1000, hva: memory.advanced(byBytes: 8))
        == "its memory does not begin at a page of 4 KiB")
    #expect(detail(0x1000, 0x1000, []) == "it grants neither read nor write")
    #expect(world.container.capabilities.validRanges.count == 2)
  }
}
