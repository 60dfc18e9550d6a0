public import DMAContainer

/// A device whose DMA goes through the IOAS of an ``IOMMUFDContainer``.
public final class IOMMUFDDevice: Sendable {
  public let name: String
  /// Its id in the iommufd.
  public let id: UInt32
  /// Where its writes are found.
  public let log: any DirtyLog
  /// Its open file, for its regions, features and migration; nil where only its id was handed over.
  public let descriptor: IOMMUFDDescriptor?

  init(name: String, id: UInt32, log: any DirtyLog, descriptor: IOMMUFDDescriptor?) {
    self.name = name
    self.id = id
    self.log = log
    self.descriptor = descriptor
  }
}
