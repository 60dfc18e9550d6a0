import Addressing

/// What one call of ``MigratableDevice/nextChunk(into:byteCountMax:)`` gave.
public enum ChunkOutcome: Hashable, Sendable {
  /// The buffer holds one chunk, the whole of it and nothing else; at least 1 byte.
  case chunk
  /// Nothing now; while the device works there may be more later. The buffer is empty.
  case drainedForNow
  /// All of the device's state has been given. Only in stop-and-copy. The buffer is empty.
  case end
}

/// How ``MigratableDevice/recover()`` brought a device back.
public enum DeviceRecovery: Hashable, Sendable, CustomStringConvertible {
  /// It is RUNNING with its state.
  case running
  /// It is RUNNING after a reset: what it held is lost and the guest's driver has to start over.
  case reset(because: DeviceError?)

  public var description: String {
    switch self {
    case .running: "returned to RUNNING"
    case .reset(let cause): cause.map { "reset, because \($0)" } ?? "reset"
    }
  }
}

/// One device of a migration, whichever interface it has.
///
/// Terms: a **chunk** is what one read of the device gave. The destination gets the same chunks in
/// the same order, one call of ``load(_:)`` each: v1 devices count on it, v2 devices do not mind.
///
/// Invariants:
/// 1. Every call either brings the device to the state it names or throws, and after a throw
///    ``state`` is what the device itself said it is in.
/// 2. No call changes a device back on its own: ``recover()`` does, for all devices of a migration,
///    when the front-end says so.
/// 3. The end of a device's state is only ever its own word, in stop-and-copy.
/// 4. What a device does not say (sizes) is nil, never 0.
///
/// States, source and destination; where two phases are named, all devices finish the first before
/// any begins the second:
///
///     RUNNING ─beginPrecopy─> PRE_COPY ─enterP2P─> PRE_COPY_P2P ─beginStopCopy─> STOP_COPY
///        │ (no PRE_COPY: stays RUNNING)  phase 1                   phase 2           │
///        └─enterP2P─> RUNNING_P2P ───────beginStopCopy──────────────────────────────>│
///                                                                STOP <─finishSaving─┘
///     RUNNING or STOP ─beginResuming─> RESUMING ─load*, finishResuming─> STOP
///     STOP ─prepareToRun─> RUNNING_P2P ─run─> RUNNING
///           phase 1                     phase 2
///     any ─recover─> RUNNING, by way of a reset where there is no other
///
/// One thread at a time drives a device; ``state`` and ``observedStates`` may be read from any.
public protocol MigratableDevice: AnyObject, Sendable {
  var name: String { get }
  /// Asked once, when the object was made.
  var interface: MigrationInterface { get }
  /// What the device was last known to be in, v1 in the words of v2.
  var state: DeviceState { get }
  /// States passed through since the last `beginPrecopy` or `beginResuming`, the first included.
  var observedStates: [DeviceState] { get }

  /// A migration is about to begin: has the memory that chunks of so many bytes are read into. The
  /// first read of a device without PRE_COPY comes while the guest stands still.
  func prepareToSave(byteCountMax: Int)

  /// Begins saving. A device without PRE_COPY stays RUNNING, one that is stopped stays STOP: their
  /// state comes in stop-and-copy.
  func beginPrecopy() throws(DeviceError)

  /// The next chunk of state into `buffer`, which is emptied first and keeps its capacity.
  ///
  /// `byteCountMax` bounds a v2 chunk; a v1 chunk comes as the device cut it, at most
  /// ``DeviceChunk/byteCountMax``. Outside the saving states: `drainedForNow`.
  func nextChunk(into buffer: inout [UInt8], byteCountMax: Int) throws(DeviceError) -> ChunkOutcome

  /// What is left; asks the device. Never fails: what can not be known is nil.
  func pendingEstimate() -> PendingEstimate

  /// What is left to read while the device works, without what stop-and-copy will give: that may be
  /// a command to firmware, and is asked once a round, not after every chunk.
  func precopyEstimate() -> PendingEstimate

  /// Phase 1 of stopping: no DMA to other devices from here on. Does nothing where there is no P2P
  /// state or the device is stopped.
  func enterP2P() throws(DeviceError)

  /// Back from phase 1, the VM runs on: PRE_COPY_P2P to PRE_COPY, RUNNING_P2P to RUNNING. Does
  /// nothing in any other state.
  func leaveP2P() throws(DeviceError)

  /// Phase 2 of stopping: the device stops, the rest of its state can be read. vCPUs are stopped.
  func beginStopCopy() throws(DeviceError)

  /// Ends saving after `end`: to STOP. May be slow, and belongs outside the downtime.
  func finishSaving() throws(DeviceError)

  /// Stops without saving: the VM pauses and no migration is under way.
  func stop() throws(DeviceError)

  /// Begins loading. The device's state is lost from here on.
  func beginResuming() throws(DeviceError)

  /// One chunk as the source gave it, whole.
  func load(_ chunk: RawSpan) throws(DeviceError)

  /// All chunks are there. A v2 device checks them and goes to STOP; a v1 device checks them when
  /// it runs.
  func finishResuming() throws(DeviceError)

  /// Phase 1 of starting: to RUNNING_P2P, from wherever the device is. Does nothing where there is
  /// no P2P state.
  func prepareToRun() throws(DeviceError)

  /// Phase 2 of starting: to RUNNING.
  func run() throws(DeviceError)

  /// Brings the device back to RUNNING, whatever happened before: a cancel, a failure here or on
  /// another device. A device that was loaded but never ran is reset, its state is the source's.
  /// Throws only when a reset failed too: the device is lost until it is plugged in anew.
  func recover() throws(DeviceError) -> DeviceRecovery

  /// Whether it has a PCI configuration: a destination takes no device that has one without it.
  var hasConfiguration: Bool { get }

  /// The PCI configuration as versioned bytes, nil for a device that is not on PCI. Saved when the
  /// device is stopped.
  func saveConfiguration() throws(DeviceError) -> [UInt8]?

  /// Validates saved bytes against this device, then writes them; nothing is written when anything
  /// is wrong with them. Before `run`.
  func restoreConfiguration(_ bytes: RawSpan) throws(DeviceError)
}

extension MigratableDevice {
  public func prepareToSave(byteCountMax: Int) {}
  public func precopyEstimate() -> PendingEstimate { pendingEstimate() }
}

/// The bounds of a chunk.
public enum DeviceChunk {
  /// Bytes in one chunk: it travels in one section of the stream, with 4 KiB left for what goes
  /// before it.
  public static let byteCountMax = Limits.streamSectionByteCountMax - 4096
  /// Bytes asked for at once unless told otherwise: more was no faster on the devices QEMU's
  /// authors measured.
  public static let byteCountDefault = 1 << 20
}
