import Addressing
import GuestDirtyLog
import Locking
import VFIOUser
import VhostUser

/// The files of guest memory that a VMM gave, side by side in one address space, which is what the
/// tracker takes for the guest's: when a mapping comes, a VMM may not have said yet where its file
/// lies in the guest's RAM, and may change it later.
///
/// Terms:
/// - **Place**: an address of that space. Byte `n` of the k-th file is at place `k << 46 + n`.
///
/// Invariants:
/// 1. A file keeps its place as long as anything is mapped of it, or it is RAM of the guest.
/// 2. What is mapped of a file is covered: the dirty log has a region there before the mapping is.
/// 3. DMA by message reaches what the VMM mapped for it, and a file is never made longer.
final class GuestFiles: DMAMemory {
  struct File: Sendable {
    let identity: FileIdentity
    let descriptor: VFIOUser.OwnedDescriptor
    let first: GPA
    /// From its beginning on; whole pages.
    var coveredByteCount: UInt64 = 0
    var mappingCount = 0

    /// Of a place in it.
    func offset(of place: GPA) -> UInt64 { place.rawValue - first.rawValue }

    /// All the room it has.
    var room: GPARange {
      GPARange(first: first, last: GPA(first.rawValue + (GuestFiles.roomByteCount - 1)))
    }
  }

  private struct State: Sendable {
    var files: [FileIdentity: File] = [:]
    var nextNumber: UInt64 = 1
  }

  /// 64 TiB for each file.
  static let roomByteCount: UInt64 = 1 << 46
  private static let fileCountMax: UInt64 = 1 << 17

  private let state = Mutex(State())
  /// Called after each write by message, before the device has its answer.
  private let wrote: @Sendable (GPARange) -> Void
  /// What is added to an offset that a mapping says, to count from the file's first byte; nil where
  /// that is not one number.
  private let shift: @Sendable (FileIdentity) -> UInt64?

  init(
    shift: @escaping @Sendable (FileIdentity) -> UInt64?,
    wrote: @escaping @Sendable (GPARange) -> Void
  ) {
    self.shift = shift
    self.wrote = wrote
  }

  /// Takes up a mapping of bytes of a file.
  /// - Parameter cover: adds a region to the dirty log; called before anybody learns of the place.
  /// - Returns: the file, and the place of `offset` in it.
  func enter(
    _ descriptor: VFIOUser.OwnedDescriptor, offset: UInt64, byteCount: UInt64,
    cover: (RAMRegion) throws(ServiceError) -> Void
  ) throws(ServiceError) -> (file: File, place: GPA) {
    let identity: FileIdentity
    do throws(VhostUserError) {
      identity = try FileIdentity(of: descriptor.rawValue)
    } catch {
      throw .memoryRefused("\(error)")
    }
    let (end, isPast) = offset.addingReportingOverflow(byteCount)
    guard !isPast, end <= Self.roomByteCount else {
      throw .memoryRefused("a file of guest memory has more than 64 TiB")
    }
    return try state.withLock { (state: inout sending State) throws(ServiceError) in
      var file: File
      if let known = state.files[identity] {
        file = known
      } else {
        guard state.nextNumber < Self.fileCountMax else {
          throw .memoryRefused("there have been \(state.nextNumber) files of guest memory")
        }
        file = File(
          identity: identity, descriptor: descriptor, first: GPA(state.nextNumber << 46))
        state.nextNumber += 1
      }
      if end > file.coveredByteCount {
        // All there is of it at once: later maps find it covered.
        let size = UInt64(max(0, FileBytes.count(descriptor.rawValue)))
        let wanted = (max(min(size, Self.roomByteCount), end) + 4095) & ~4095
        let first = GPA(file.first.rawValue + file.coveredByteCount)
        try cover(
          RAMRegion(
            name: "\(identity) from \(file.coveredByteCount)",
            gpa: GPARange(first: first, last: GPA(file.first.rawValue + (wanted - 1)))))
        file.coveredByteCount = wanted
      }
      file.mappingCount += 1
      state.files[identity] = file
      return (file, GPA(file.first.rawValue + offset))
    }
  }

  /// A mapping at a place has gone.
  func leave(_ place: GPA) {
    state.withLock { state in
      guard let identity = Self.file(at: place, state.files)?.identity else { return }
      state.files[identity]?.mappingCount -= 1
    }
  }

  /// Lets go of files that nothing is mapped of and `isWanted` does not name.
  /// - Returns: those that went.
  func prune(_ isWanted: (FileIdentity) -> Bool) -> [File] {
    state.withLock { state in
      let gone = state.files.values.filter { $0.mappingCount == 0 && !isWanted($0.identity) }
      for file in gone { state.files[file.identity] = nil }
      return gone
    }
  }

  /// The file that a place lies in.
  func file(at place: GPA) -> File? { state.withLock { Self.file(at: place, $0.files) } }

  private static func file(at place: GPA, _ files: [FileIdentity: File]) -> File? {
    // A VM has a handful of files.
    files.values.first { $0.room.contains(place) }
  }

  // MARK: DMA by message

  func read(into bytes: inout MutableRawSpan, at gpa: GPA) -> Bool {
    guard let (file, offset) = bytePlace(gpa) else { return false }
    return FileBytes.read(file.descriptor.rawValue, at: offset, into: &bytes) == 0
  }

  func write(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard bytes.byteCount > 0 else { return true }
    guard let range = GPARange(first: gpa, byteCount: UInt64(bytes.byteCount)) else {
      return false
    }
    // Marked also where it failed: some of it may have been written.
    defer { wrote(range) }
    return writeUnmarked(bytes, at: gpa)
  }

  /// For a helper that is to forget it.
  func writeUnmarked(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard let (file, offset) = bytePlace(gpa) else { return false }
    return FileBytes.write(file.descriptor.rawValue, at: offset, bytes) == 0
  }

  private func bytePlace(_ place: GPA) -> (File, offset: UInt64)? {
    guard let file = file(at: place), let shift = shift(file.identity) else { return nil }
    return (file, file.offset(of: place) + shift)
  }
}
