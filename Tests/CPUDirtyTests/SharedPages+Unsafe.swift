import Addressing
import Glibc
import GuestDirtyLog
import Synchronization

/// Shared memory that this process sees twice, as a VMM's and a device's mappings do.
///
/// Unsafe because it is reached by address. Sound because every access is an atomic one inside the
/// mapping, and the mappings live as long as the object.
@safe final class SharedPages: Sendable {
  enum Mapping { case watched, second }

  let pageCount: Int
  private nonisolated(unsafe) let watched: UnsafeMutableRawPointer
  private nonisolated(unsafe) let second: UnsafeMutableRawPointer
  private static let number = Atomic(0)

  init(pageCount: Int) {
    let name = "/smudge-test-\(getpid())-\(Self.number.add(1, ordering: .relaxed).newValue)"
    let fd = unsafe shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0o600)
    precondition(fd >= 0, "shared memory: errno \(errno)")
    unsafe shm_unlink(name)
    precondition(ftruncate(fd, pageCount * 4096) == 0)
    func map() -> UnsafeMutableRawPointer {
      let address = unsafe mmap(
        nil, pageCount * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
      guard let address = unsafe address, unsafe address != MAP_FAILED else {
        preconditionFailure("mmap: errno \(errno)")
      }
      return unsafe address
    }
    unsafe watched = map()
    unsafe second = map()
    self.pageCount = pageCount
    close(fd)
  }

  deinit {
    unsafe munmap(watched, pageCount * 4096)
    unsafe munmap(second, pageCount * 4096)
  }

  private func word(_ page: Int, _ mapping: Mapping) -> UnsafeMutablePointer<Atomic<UInt64>> {
    precondition(page >= 0 && page < pageCount)
    let base = mapping == .watched ? unsafe watched : unsafe second
    return unsafe (base + page * 4096).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  func write(_ value: UInt64, to page: Int, through mapping: Mapping = .watched) {
    unsafe word(page, mapping).pointee.store(value, ordering: .relaxed)
  }

  func read(_ page: Int) -> UInt64 {
    unsafe word(page, .second).pointee.load(ordering: .relaxed)
  }

  /// Pages `first` to `last` as guest memory.
  func region(
    _ name: String = "ram", at gpa: UInt64 = 0, pages: ClosedRange<Int>? = nil
  ) -> RAMRegion {
    let pages = pages ?? 0...(pageCount - 1)
    let range = GPARange(first: GPA(gpa), byteCount: UInt64(pages.count * 4096))!
    let address = unsafe UInt64(UInt(bitPattern: watched)) + UInt64(pages.lowerBound * 4096)
    return RAMRegion(name: name, gpa: range, hvaFirst: HVA(address))
  }
}
