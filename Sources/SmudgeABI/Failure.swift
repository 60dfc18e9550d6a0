import Addressing
import CSmudge
import DMAContainer
import DeviceMigration
import DirtyTracker
import GuestDirtyLog
import IOMMUFD
import IOVAMapping
import VFIOKernel

/// Why a call of the C library failed: the code it returns, and the sentence of
/// `smudge_last_error`.
struct Failure: Error {
  let code: Int32
  let sentence: String

  init(_ code: Int, _ sentence: String) {
    self.code = Int32(truncatingIfNeeded: code)
    self.sentence = sentence
  }

  static func misuse(_ what: String) -> Failure {
    Failure(SMUDGE_EINVAL, "\(what); nothing changed")
  }

  init(_ error: TrackerError) {
    self.init(Self.code(error), "\(error)")
  }

  init(_ error: GuestDirtyLogError) {
    self.init(Self.code(error), "\(error)")
  }

  init(_ error: VFIOError) {
    self.init(Self.code(errno: error.errno), "\(error); no container was added")
  }

  init(_ error: IOMMUFDError) {
    self.init(Self.code(errno: error.errno), "\(error); no container was added")
  }

  init(_ error: MigrationError) {
    let code =
      switch error.cause {
      case .blocked: SMUDGE_EPERM
      case .cancelled: SMUDGE_ECANCELED
      case .outcomeUnknown: SMUDGE_ENOTUNIQ
      case .channel(let error): Self.code(errno: error.errorNumber)
      case .log(let error): Self.code(error)
      case .memoryMissing: SMUDGE_EFAULT
      case .device, .machine, .stream, .refused, .notConverging, .resumedMeanwhile,
        .writtenAfterStop, .sourceAborted:
        SMUDGE_EIO
      }
    self.init(code, "\(error)")
  }

  /// The kernel's own number; an answer that was wrong without one is an I/O error.
  private static func code(errno: Int32) -> Int { errno > 0 ? -Int(errno) : SMUDGE_EIO }

  private static func code(_ error: TrackerError) -> Int {
    switch error {
    case .unknownContainer: SMUDGE_EBADF
    case .nameTaken: SMUDGE_EEXIST
    case .tooManyContainers: SMUDGE_ENOSPC
    case .notRemapped, .notOwnedByVMM: SMUDGE_EPERM
    case .noPermissions, .partOfRegion, .noTransaction: SMUDGE_EINVAL
    case .notContiguous, .regionNotMapped: SMUDGE_EFAULT
    // The only map that fails without a call is of memory with no address in this process.
    case .mapFailed(let error) where error.errno == 0: SMUDGE_EFAULT
    case .mapping(_, let error): code(error)
    case .mapFailed(let error), .unmapFailed(let error), .remapFailed(_, let error):
      code(errno: error.errno)
    case .keptPartLost, .mapNotTakenBack, .replayIncomplete, .leftMapped: SMUDGE_EIO
    case .transactionOpen: SMUDGE_EBUSY
    case .log(let error): code(error)
    case .outOfMemory: SMUDGE_ENOMEM
    }
  }

  private static func code(_ error: MappingError) -> Int {
    switch error {
    case .overlap: SMUDGE_EEXIST
    case .wouldBisect, .unaligned: SMUDGE_EINVAL
    case .tooManyMappings: SMUDGE_ENOSPC
    case .mappingTooLarge: SMUDGE_E2BIG
    case .gpaOverflow: SMUDGE_EOVERFLOW
    }
  }

  private static func code(_ error: GuestDirtyLogError) -> Int {
    switch error {
    case .zeroSize, .unaligned: SMUDGE_EINVAL
    case .pastAddressSpace: SMUDGE_EOVERFLOW
    case .pastLimit: SMUDGE_E2BIG
    case .overlap, .nameTaken: SMUDGE_EEXIST
    case .noRegion: SMUDGE_ENOENT
    case .tooManyRegions, .tooManyConsumers: SMUDGE_ENOSPC
    case .outOfMemory: SMUDGE_ENOMEM
    }
  }
}
