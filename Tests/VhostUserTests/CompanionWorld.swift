import VhostUser

/// A companion at a path of its own, with a delegate, and memory for guests.
final class CompanionWorld {
  let path: String
  let name: String
  let delegate = RecordingDelegate()
  let companion: Companion
  let memory: Int32

  init(_ name: String) throws {
    self.path = Descriptors.temporaryPath(name)
    self.name = "smudge-\(name)-\(UInt64.random(in: 0...UInt64.max))"
    companion = try Companion(path: path, delegate: delegate)
    memory = Descriptors.memory(self.name, byteCount: 16 << 20)
  }

  deinit {
    companion.end()
    Descriptors.close(memory)
  }

  /// A region of this world's memory.
  func region(
    _ gpa: UInt64, _ byteCount: UInt64, at fileOffset: UInt64
  ) -> (RAMRegionDescription, Int32) {
    (
      RAMRegionDescription(
        gpa: gpa, byteCount: byteCount, userAddress: 0x7000_0000_0000 + fileOffset,
        fileOffset: fileOffset), memory
    )
  }

  var regions: [(RAMRegionDescription, Int32)] {
    [region(0, 8 << 20, at: 0), region(4 << 30, 4 << 20, at: 8 << 20)]
  }

  /// Descriptors of the guest's memory that the companion holds.
  var heldCount: Int { Descriptors.openCount(name) - 1 }
}
