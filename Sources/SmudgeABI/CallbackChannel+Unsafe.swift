import CSmudge
import DeviceMigration

/// A stream by functions of C. Unsafe because of them and the addresses they are given; sound
/// because each is that of a span for as long as the call lasts.
@safe final class CallbackChannel: ByteChannel, @unchecked Sendable {
  let name = "the VMM's channel"
  let isBidirectional: Bool
  private let channel: smudge_channel

  init(_ channel: smudge_channel) throws(Failure) {
    guard unsafe channel.write != nil || channel.read != nil else {
      throw .misuse("channel has neither read nor write")
    }
    unsafe self.channel = channel
    isBidirectional = unsafe channel.write != nil && channel.read != nil
  }

  func write(_ bytes: RawSpan) throws(ChannelError) {
    guard let write = unsafe channel.write else { throw refused("write", SMUDGE_EBADF) }
    let result = unsafe bytes.withUnsafeBytes { all in
      unsafe write(all.baseAddress, UInt64(all.count), channel.opaque)
    }
    if result != 0 { throw refused("write", Int(result)) }
  }

  func read(into buffer: inout MutableRawSpan) throws(ChannelError) -> Int {
    guard let read = unsafe channel.read else { throw refused("read", SMUDGE_EBADF) }
    let room = buffer.byteCount
    let result = unsafe buffer.withUnsafeMutableBytes { all in
      unsafe read(all.baseAddress, UInt64(all.count), channel.opaque)
    }
    guard result >= 0, result <= room else { throw refused("read", Int(result)) }
    return Int(result)
  }

  func shutDown() {
    guard let shutDown = unsafe channel.shut_down else { return }
    unsafe shutDown(channel.opaque)
  }

  private func refused(_ operation: String, _ result: Int) -> ChannelError {
    ChannelError(
      .failed, channel: name, operation: operation,
      errorNumber: Int32(clamping: result < 0 ? -result : 0),
      detail: "the callback returned \(result)")
  }
}
