import Addressing
import DMAContainer
import Testing
import VFIOKernel

/// Memory that moves in this process under mappings that stay.
@Suite struct Type1AddressTests {
  static func range(_ page: UInt64, _ count: UInt64) -> IOVARange { Type1World.range(page, count) }

  @Test func `addresses are made invalid and given anew, by the bytes of the header`() throws {
    let world = try Type1World(.pinned)
    let container = world.container
    try world.map(0x100, 3)
    try world.map(0x200, 2)
    #expect(container.canUpdateAddresses)
    world.kernel.plan(nil)
    #expect(try container.invalidateAddresses(in: Self.range(0x100, 3)) == 0x3000)
    #expect(try container.invalidateAddresses(in: Self.range(0x180, 0x100)) == 0x2000)
    let hva = HVA(0x7f12_3456_7000)
    try container.updateAddress(of: Self.range(0x100, 3), to: hva)
    try container.updateAddress(of: Self.range(0x200, 2), to: hva)
    #expect(try container.invalidateAddresses(in: .wholeSpace) == 0x5000)
    #expect(
      world.kernel.calls(.unmapDMA).map(\.argument) == [
        Bytes.structure(24 as UInt32, 4 as UInt32, 0x10_0000 as UInt64, 0x3000 as UInt64),
        Bytes.structure(24 as UInt32, 4 as UInt32, 0x18_0000 as UInt64, 0x10_0000 as UInt64),
        Bytes.structure(24 as UInt32, 6 as UInt32, 0 as UInt64, 0 as UInt64),
      ])
    #expect(
      world.kernel.calls(.mapDMA).map(\.argument) == [
        Bytes.structure(
          32 as UInt32, 4 as UInt32, hva.rawValue, 0x10_0000 as UInt64, 0x3000 as UInt64),
        Bytes.structure(
          32 as UInt32, 4 as UInt32, hva.rawValue, 0x20_0000 as UInt64, 0x2000 as UInt64),
      ])
    // The mappings were there all the time.
    #expect(world.fake.mappings == [Self.range(0x100, 3), Self.range(0x200, 2)])
    #expect(try container.unmap(.wholeSpace) == 0x5000)
  }

  @Test func `what the kernel refuses is named, and leaves every address as it was`() throws {
    let world = try Type1World(.pinned)
    let container = world.container
    try world.map(0x100, 3)
    try world.map(0x200, 2)
    func errno(_ body: () throws(ContainerError) -> Void) -> Int32? {
      do throws(ContainerError) {
        try body()
        return nil
      } catch {
        #expect(!error.isPartial && !error.detail.isEmpty)
        return error.errno
      }
    }
    let hva = HVA(0x7f12_3456_7000)
    let whole = Self.range(0x100, 3)
    #expect(
      errno { () throws(ContainerError) in
        try container.updateAddress(of: whole, to: hva)
      } == ContainerErrno.einval, "it is not invalid")
    #expect(
      errno { () throws(ContainerError) in
        _ = try container.invalidateAddresses(in: Self.range(0x101, 0x200))
      } == ContainerErrno.einval, "it cuts a mapping")
    try container.invalidateAddresses(in: Self.range(0x200, 2))
    #expect(
      errno { () throws(ContainerError) in
        _ = try container.invalidateAddresses(in: .wholeSpace)
      } == ContainerErrno.einval, "one is invalid already")
    #expect(
      errno { () throws(ContainerError) in
        try container.updateAddress(of: whole, to: hva)
      } == ContainerErrno.einval, "so the other was not made so")
    #expect(
      errno { () throws(ContainerError) in
        try container.updateAddress(of: Self.range(0x200, 1), to: hva)
      } == ContainerErrno.einval, "a part of a mapping")
    #expect(
      errno { () throws(ContainerError) in
        try container.updateAddress(of: Self.range(0x300, 1), to: hva)
      } == ContainerErrno.enoent)
    #expect(
      errno { () throws(ContainerError) in
        try container.updateAddress(of: .wholeSpace, to: hva)
      } == ContainerErrno.einval, "it has no size of 64 bits")
    try container.updateAddress(of: Self.range(0x200, 2), to: hva)
  }

  @Test func `a mediated device keeps the addresses as they are`() throws {
    var options = FakeContainer.Options()
    options.hasMediatedDevice = true
    let world = try Type1World(.pinned, options: options)
    try world.map(0x100, 3)
    #expect(!world.container.canUpdateAddresses)
    let error = #expect(throws: ContainerError.self) {
      try world.container.invalidateAddresses(in: .wholeSpace)
    }
    #expect(error?.description.contains("invalidation of addresses") == true)
    #expect(error?.description.contains("EBUSY: a mediated device is attached") == true)
  }
}
