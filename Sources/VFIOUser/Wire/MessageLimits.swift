/// What one side accepts in one message. Kept before any memory is asked for.
public struct MessageLimits: Hashable, Sendable {
  /// Bytes of data in one message of a region, of DMA, or of a device's state
  /// (`max_data_xfer_size`).
  public var dataByteCountMax: Int
  /// Descriptors in one message (`max_msg_fds`).
  public var descriptorCountMax: Int

  /// 1 MiB is what the protocol takes where a side says nothing.
  public static let dataByteCountDefault = 1 << 20
  /// QEMU's own limit on what a peer may say.
  public static let dataByteCountLargest = 64 << 20
  /// What libvfio-user accepts of a client.
  public static let descriptorCountLargest = 1024

  public init(dataByteCountMax: Int = dataByteCountDefault, descriptorCountMax: Int = 8) {
    precondition(
      (1...Self.dataByteCountLargest).contains(dataByteCountMax), "a limit of data has a range")
    precondition(
      (0...Self.descriptorCountLargest).contains(descriptorCountMax), "so has one of descriptors")
    self.dataByteCountMax = dataByteCountMax
    self.descriptorCountMax = descriptorCountMax
  }

  /// Bytes of one message, header included: the data and 32 bytes around them, as libvfio-user
  /// counts. A side that takes little data still takes every command without data.
  public var messageByteCountMax: Int { max(dataByteCountMax, Self.smallestRoom) + 32 }

  private static let smallestRoom = 4096

  /// Bytes of a dirty bitmap in one answer: what is before it counts as data too. A multiple of 8.
  public var bitmapByteCountMax: Int { max(0, dataByteCountMax - 40) / 8 * 8 }
}
