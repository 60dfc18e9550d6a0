public import Addressing

/// What went wrong between the companion and a front-end, in its RAM table, or in the dirty log.
public enum VhostUserError: Error, Hashable, Sendable, CustomStringConvertible {
  // what a front-end sent
  case badFlags(request: UInt32, flags: UInt32)
  case unknownRequest(UInt32)
  case notNegotiated(FrontEndRequest)
  case badPayloadSize(FrontEndRequest, byteCount: UInt32)
  case badDescriptorCount(FrontEndRequest, count: Int, wanted: Int)
  case tooManyDescriptors(max: Int)
  case badField(FrontEndRequest, field: String, value: UInt64)
  // the RAM table
  case emptyRegion(gpa: GPA)
  case regionPastAddressSpace(gpa: GPA, byteCount: UInt64)
  case filePastEnd(gpa: GPA, fileOffset: UInt64)
  case regionOverlap(GPARange, with: GPARange)
  case unknownRegion(gpa: GPA, byteCount: UInt64)
  case tooManyRegions(count: Int, max: Int)
  case unreadableFile(errno: Int32)
  // the dirty log
  case logWithoutDescriptor
  case badLogSize(byteCount: UInt64)
  case badLogOffset(UInt64)
  case logPastFile(byteCount: UInt64, offset: UInt64, fileByteCount: UInt64)
  case logNotSealed
  case logNotMapped(errno: Int32)
  // marks
  case noLog(GPARange)
  case pastLog(GPARange, logPageCount: UInt64)
  // the connection
  case stopRefused(String)
  case unloggedStop
  case closedByFrontEnd
  case cutMessage(byteCount: Int)
  case connectionFailed(operation: String, errno: Int32)
  case ended
  // the socket
  case socketInUse(path: String)
  case socketFailed(path: String, errno: Int32)
  case noThread(errno: Int32)

  public var description: String {
    messageText ?? tableText ?? logText ?? connectionText
  }

  private var messageText: String? {
    let end = "; the connection is closed, nothing of it was done"
    switch self {
    case .badFlags(let request, let flags):
      return "message \(request): flags \(GPA(UInt64(flags))) are not those of a request of"
        + " version 1" + end
    case .unknownRequest(let request):
      return "message \(request) is none that a vhost-user-blk front-end sends to what was offered"
        + end
    case .notNegotiated(let request):
      return "\(request) needs a protocol feature that was not negotiated" + end
    case .badPayloadSize(let request, let byteCount):
      return "\(request): \(byteCount) bytes of payload" + end
    case .badDescriptorCount(let request, let count, let wanted):
      return "\(request): \(count) descriptors where \(wanted) belong" + end
    case .tooManyDescriptors(let max):
      return "more than \(max) descriptors in one message" + end
    case .badField(let request, let field, let value):
      return "\(request): \(field) \(value) is out of bounds" + end
    default: return nil
    }
  }

  private var tableText: String? {
    let end = "; the RAM table is as before"
    switch self {
    case .emptyRegion(let gpa): return "RAM at GPA \(gpa) has no bytes" + end
    case .regionPastAddressSpace(let gpa, let byteCount):
      return "RAM at GPA \(gpa) of \(byteCount) bytes runs past 2^64-1" + end
    case .filePastEnd(let gpa, let fileOffset):
      return "RAM at GPA \(gpa): offset \(fileOffset) in its file runs past 2^64-1" + end
    case .regionOverlap(let range, let other):
      return "RAM at GPA \(range) overlaps that at \(other)" + end
    case .unknownRegion(let gpa, let byteCount):
      return "no RAM at GPA \(gpa) of \(byteCount) bytes to remove" + end
    case .tooManyRegions(let count, let max):
      return "\(count) regions of RAM, at most \(max) are kept" + end
    case .unreadableFile(let errno):
      return "fstat of a descriptor of RAM failed with \(ErrorNumber.name(errno))" + end
    default: return nil
    }
  }

  private var logText: String? {
    let end = "; there is no log, and a stop is refused while the front-end wants one"
    switch self {
    case .logWithoutDescriptor: return "SET_LOG_BASE without a descriptor" + end
    case .badLogSize(let byteCount): return "a dirty log of \(byteCount) bytes" + end
    case .badLogOffset(let offset):
      return "a dirty log at offset \(offset), which is not a multiple of 8" + end
    case .logPastFile(let byteCount, let offset, let fileByteCount):
      return "a dirty log of \(byteCount) bytes at offset \(offset) of a file of"
        + " \(fileByteCount) bytes" + end
    case .logNotSealed:
      return "the dirty log's file can shrink (no F_SEAL_SHRINK), and a mark would then end this"
        + " process" + end
    case .logNotMapped(let errno):
      return "mmap of the dirty log failed with \(ErrorNumber.name(errno))" + end
    case .noLog(let range):
      return "GPA \(range) was not marked: there is no dirty log; mark it in the next one"
    case .pastLog(let range, let logPageCount):
      return "GPA \(range) was not marked: the dirty log ends after \(logPageCount) pages; what"
        + " lies inside was"
    default: return nil
    }
  }

  private var connectionText: String {
    switch self {
    case .stopRefused(let reason):
      return "the stop is refused: \(reason); the connection is closed, so that a migration fails"
    case .unloggedStop:
      return "the front-end wants a dirty log and has given none that can be used; the stop is"
        + " refused and the connection closed, so that a migration fails rather than loses pages"
    case .closedByFrontEnd: return "the front-end closed the connection"
    case .cutMessage(let byteCount):
      return "the front-end went away \(byteCount) bytes into a message; nothing of it was done"
    case .connectionFailed(let operation, let errno):
      return "\(operation) failed with \(ErrorNumber.name(errno)); the connection is closed"
    case .ended: return "the companion was ended; the connection is closed"
    case .socketInUse(let path):
      return "\(path): another process listens there, or binds it right now; it was left alone"
    case .socketFailed(let path, let errno):
      return "\(path): no socket was made: \(ErrorNumber.name(errno))"
    case .noThread(let errno):
      return "pthread_create failed with \(ErrorNumber.name(errno)); nothing listens"
    default: return ""
    }
  }
}
