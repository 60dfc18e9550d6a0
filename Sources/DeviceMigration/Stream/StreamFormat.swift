import Addressing

/// The migration stream, version 2: what one VM is as bytes, from source to destination, and the
/// answers the other way. `Docs/STREAM.md` is the same for people who write another reader.
///
/// Terms:
/// - **Section**: a header of 40 bytes and its payload. All numbers are little-endian.
/// - **Sequence**: the place of a section in its direction, from 0, without gaps.
/// - **Page**: 4096 bytes of guest RAM, whatever the page size of the dirty log.
///
/// Invariants:
/// 1. Nothing in a section is acted on before the checksum of its header holds, nothing but the
///    bytes of pages before that of its payload does. Page bytes go straight into guest memory and
///    are checked there: a migration that fails discards the destination's memory as a whole.
/// 2. The checksum of a section is that of the bytes that were written, also where the guest
///    changed the page meanwhile: each byte of guest memory is read once.
/// 3. No input traps the reader. What it refuses it names, with the offset.
/// 4. A direction ends with its last section; a byte after it is an error.
///
/// Order, source to destination:
///
///     start of stream, hello
///     roundBegin, (pages | zeroPages | deviceChunk)*, roundEnd            any number of times
///     stopped, (pages | zeroPages)*, (deviceChunk*, deviceEnd, deviceConfiguration?) each device
///     machineState+, (pages | zeroPages)*, complete
///     start                                                  only where the destination answers
///     abort                                                  instead of anything after hello
///     alive                                                  anywhere between hello and complete
///     ping                                                   where alive may be; answered by pong
public enum StreamFormat {
  /// The first 8 bytes of each direction. The line ends in it tell a text-mode transfer.
  public static let magic: [UInt8] = [0x73, 0x6d, 0x75, 0x64, 0x67, 0x65, 0x0d, 0x0a]
  /// This version and no other is read.
  public static let version: UInt32 = 2
  /// Magic, version and the CRC32C of both.
  public static let startByteCount = 16
  public static let headerByteCount = 40
  public static let pageByteCount = 4096
  /// Bytes of pages in one section as written here: what a core's cache holds between copy,
  /// checksum and write. Less costs more calls and wake-ups than it saves.
  public static let pagesByteCountMax = 1 << 20
  /// Bytes of all machine state sections of one migration.
  public static let machineStateByteCountMax = 256 << 20
  /// Bytes of one name or reason, UTF-8.
  public static let textByteCountMax = 4096

  /// Feature bits of hello. An unknown one is refused.
  public static let featureAnswers: UInt32 = 1
  /// Bits of the argument of `accepted`: what the destination knows beyond version 2. An unknown
  /// one is ignored.
  public static let acceptsPings: UInt64 = 1
}

/// What a section is.
public enum StreamSectionKind: UInt16, CaseIterable, Sendable, CustomStringConvertible {
  /// Payload: ``StreamHello``.
  case hello = 1
  /// argument: GPA. count: pages. Payload: their bytes.
  case pages = 2
  /// argument: GPA. count: pages, all zero. No payload.
  case zeroPages = 3
  /// argument: number of the round.
  case roundBegin = 4
  case roundEnd = 5
  /// vCPUs and devices are stopped; what follows is final.
  case stopped = 6
  /// argument: number of the chunk of this device, from 0. count: index of the device in hello.
  case deviceChunk = 7
  /// argument: chunks of this device in all. count: index of the device.
  case deviceEnd = 8
  /// count: index of the device. Payload: what `saveConfiguration` gave.
  case deviceConfiguration = 9
  /// argument: offset. count: 1 for the last piece. Payload: a piece, opaque here.
  case machineState = 10
  /// Payload: ``StreamTotals``.
  case complete = 11
  /// The source will not run again: the destination may.
  case start = 12
  /// Payload: the reason as text.
  case abort = 13
  /// Nothing: the source is there, and busy.
  case alive = 14
  /// count: a number. Only to a destination whose `accepted` says that it answers.
  case ping = 15

  // From the destination.
  case accepted = 64
  /// Payload: the reason as text.
  case refused = 65
  /// Everything is loaded and checked.
  case loaded = 66
  /// The guest runs on the destination.
  case running = 67
  /// Payload: the reason as text. The destination has reset its devices and will not run.
  case failed = 68
  /// count: that of the ping. argument: nanoseconds of the longest walk of the devices so far.
  case pong = 69

  public var isAnswer: Bool { rawValue >= 64 }
  public var description: String {
    switch self {
    case .hello: "hello"
    case .pages: "pages"
    case .zeroPages: "zero pages"
    case .roundBegin: "round begin"
    case .roundEnd: "round end"
    case .stopped: "stopped"
    case .deviceChunk: "device chunk"
    case .deviceEnd: "device end"
    case .deviceConfiguration: "device configuration"
    case .machineState: "machine state"
    case .complete: "complete"
    case .start: "start"
    case .abort: "abort"
    case .alive: "alive"
    case .ping: "ping"
    case .accepted: "accepted"
    case .refused: "refused"
    case .loaded: "loaded"
    case .running: "running"
    case .failed: "failed"
    case .pong: "pong"
    }
  }
}
