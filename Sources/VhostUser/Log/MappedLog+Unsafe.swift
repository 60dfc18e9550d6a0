import CSmudgeLinux

/// A dirty log in memory shared with the front-end.
///
/// Unsafe because it is reached by address and changed by others at the same time. Sound because it
/// is mapped for as long as this value lives, its file cannot shrink unless the caller took that
/// risk, it is changed by atomic OR only, and each call checks its bits against the size first.
@safe struct MappedLog: ~Copyable {
  private let address: Int64
  private let byteCount: UInt64

  /// Bits of the log: pages of 4096 bytes from GPA 0 on. 0 when there is no log.
  var pageCount: UInt64 { byteCount &* 8 }

  /// No log.
  init() {
    address = 0
    byteCount = 0
  }

  /// Maps it; the descriptor is not needed afterwards.
  init(
    _ description: LogDescription, of descriptor: Int32, acceptsUnsealed: Bool
  ) throws(VhostUserError) {
    guard description.byteCount > 0, description.byteCount <= CompanionLimits.logByteCountMax
    else { throw .badLogSize(byteCount: description.byteCount) }
    // The front-end takes 64-bit words; ours must be the same ones.
    guard description.offset % 8 == 0 else { throw .badLogOffset(description.offset) }
    var (device, inode, fileByteCount): (UInt64, UInt64, UInt64) = (0, 0, 0)
    let status = unsafe smudge_vhost_file(descriptor, &device, &inode, &fileByteCount)
    guard status >= 0 else { throw .logNotMapped(errno: -status) }
    let (end, overflow) = description.offset.addingReportingOverflow(description.byteCount)
    guard !overflow, end <= fileByteCount else {
      throw .logPastFile(
        byteCount: description.byteCount, offset: description.offset,
        fileByteCount: fileByteCount)
    }
    if !acceptsUnsealed {
      guard smudge_vhost_cannot_shrink(descriptor) == 1 else { throw .logNotSealed }
      // It could have shrunk just before the seal.
      let sealed = unsafe smudge_vhost_file(descriptor, &device, &inode, &fileByteCount)
      guard sealed >= 0, end <= fileByteCount else { throw .logNotSealed }
    }
    let mapped = smudge_vhost_log_map(descriptor, description.offset, description.byteCount)
    guard mapped > 0 else { throw .logNotMapped(errno: Int32(clamping: -mapped)) }
    address = mapped
    byteCount = description.byteCount
  }

  deinit {
    if byteCount > 0 { smudge_vhost_log_unmap(address, byteCount) }
  }

  /// - Precondition: `first <= last`, and `last` lies in the log.
  func set(_ first: UInt64, through last: UInt64) {
    precondition(first <= last && last < pageCount, "a bit past the log")
    smudge_vhost_log_set(address, byteCount, first, last)
  }

  /// Bit n of `words` is page `first` + n; only the first `bitCount` bits are looked at.
  /// - Precondition: they lie in the log, and in the words.
  func merge(_ words: Span<UInt64>, at first: UInt64, bitCount: UInt64) {
    precondition(
      bitCount <= UInt64(words.count) &* 64 && first <= pageCount && bitCount <= pageCount - first,
      "bits past the log")
    unsafe words.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      unsafe smudge_vhost_log_merge(address, byteCount, first, base, bitCount)
    }
  }
}
