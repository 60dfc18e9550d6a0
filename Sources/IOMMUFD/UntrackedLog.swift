public import Addressing
public import DMAContainer
public import PageBitmap

/// The log of a device of which nothing is known: every page of every answer is dirty.
public final class UntrackedLog: DirtyLog {
  /// With the reason, as people read it.
  public let name: String

  init(device: String, because reason: String) {
    name = "\(device): everything mapped (\(reason))"
  }

  public var capabilities: DirtyLogCapabilities {
    DirtyLogCapabilities(
      scope: .everythingMapped, pageSizes: PageSizeSet(mask: ~0xfff), mayCrossHoles: true,
      mayCutMapping: false, canPeek: true, granule: .page)
  }

  public func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    precondition(ranges.isEmpty, "the log follows the mappings")
  }

  public func stop() throws(ContainerError) {}

  public func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    bitmap.markAll()
  }
}
