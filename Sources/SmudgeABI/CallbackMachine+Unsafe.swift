import CSmudge
import DeviceMigration

/// A VMM by functions of C, and the observer that tells it of rounds. Unsafe because of the
/// functions; sound because they are called from the thread that migrates, with addresses of arrays
/// for as long as the call lasts.
@safe final class CallbackMachine: MigratingMachine, MigrationObserver {
  private(set) var isRunning: Bool
  /// Cancels the migration that is observed.
  var cancellation: CancellationRequest?
  private let machine: smudge_machine
  private let roundEnded:
    (
      @convention(c) (UnsafePointer<smudge_round>?, UnsafeMutableRawPointer?)
        -> Int32
    )?
  private let opaque: UnsafeMutableRawPointer?

  init(_ machine: smudge_machine, _ params: smudge_migration_params) throws(Failure) {
    guard unsafe machine.stop_vcpus != nil && machine.resume_vcpus != nil else {
      throw .misuse("machine lacks stop_vcpus or resume_vcpus")
    }
    unsafe self.machine = machine
    isRunning = unsafe machine.is_running != 0
    unsafe roundEnded = params.round_ended
    unsafe opaque = params.opaque
  }

  func stopVCPUs() throws(MachineError) {
    try call("stop vCPUs", unsafe machine.stop_vcpus?(machine.opaque) ?? 0)
    isRunning = false
  }

  func resumeVCPUs() throws(MachineError) {
    try call("resume vCPUs", unsafe machine.resume_vcpus?(machine.opaque) ?? 0)
    isRunning = true
  }

  func saveState() throws(MachineError) -> [UInt8] {
    guard let save = unsafe machine.save_state else { return [] }
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = unsafe bytes.withUnsafeMutableBytes { all in
        unsafe save(all.baseAddress, UInt64(all.count), machine.opaque)
      }
      try call("save its state", Int32(clamping: min(count, 0)))
      if count <= bytes.count { return Array(bytes.prefix(Int(count))) }
      guard count <= 1 << 30 else {
        throw MachineError(operation: "save its state", detail: "it says \(count) bytes")
      }
      bytes = [UInt8](repeating: 0, count: Int(count))
    }
  }

  func restoreState(_ bytes: [UInt8]) throws(MachineError) {
    guard let restore = unsafe machine.restore_state else { return }
    let result = unsafe bytes.withUnsafeBytes { all in
      unsafe restore(all.baseAddress, UInt64(all.count), machine.opaque)
    }
    try call("restore its state", result)
  }

  private func call(_ operation: String, _ result: Int32) throws(MachineError) {
    if result == 0 { return }
    throw MachineError(operation: operation, detail: "the callback returned \(result)")
  }

  func migration(_ event: MigrationEvent) {
    guard case .roundEnded(let round, _) = event, let roundEnded = unsafe roundEnded else { return }
    var told = smudge_round()
    told.size = UInt32(MemoryLayout<smudge_round>.size)
    told.number = UInt32(clamping: round.number)
    told.remaining_byte_count = round.remainingBytesAtEnd
    told.sent_byte_count = round.sentBytes
    told.nanoseconds = round.nanoseconds
    told.predicted_nanoseconds_low = round.prediction?.lowNanoseconds ?? 0
    told.predicted_nanoseconds_high = round.prediction?.highNanoseconds ?? 0
    let result = unsafe roundEnded(&told, opaque)
    if result != 0 { cancellation?.cancel(because: "round_ended returned \(result)") }
  }
}
