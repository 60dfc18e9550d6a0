import CSmudgeLinux

/// What tells a file from all others while somebody has it open: two descriptors of one memfd have
/// the same, in whatever process they were received.
///
/// Unsafe because fstat is given addresses. Sound because they are those of locals.
public struct FileIdentity: Hashable, Sendable, CustomStringConvertible {
  public let device: UInt64
  public let inode: UInt64

  public init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }

  /// Of an open file.
  public init(of descriptor: Int32) throws(VhostUserError) {
    var (device, inode, byteCount): (UInt64, UInt64, UInt64) = (0, 0, 0)
    let value = unsafe smudge_vhost_file(descriptor, &device, &inode, &byteCount)
    guard value >= 0 else { throw .unreadableFile(errno: -value) }
    self.init(device: device, inode: inode)
  }

  public var description: String { "file \(device):\(inode)" }
}
