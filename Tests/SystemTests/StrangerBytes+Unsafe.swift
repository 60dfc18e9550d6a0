import DeviceMigration

/// Bytes into a channel. Unsafe only in taking the span of a whole array.
enum StrangerBytes {
  static func send(_ bytes: [UInt8], to channel: any ByteChannel) throws(ChannelError) {
    try channel.write(unsafe bytes.span.bytes)
  }
}
