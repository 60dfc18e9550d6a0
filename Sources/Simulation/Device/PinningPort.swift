public import Addressing
public import DMAContainer

/// The way to memory of a mediated device, which holds what it writes pinned (vfio_pin_pages) and
/// whose container knows dirty pages by that.
public protocol PinningPort: DMAPort {
  /// All pages of `range` or none. EINVAL: a page is not mapped; EPERM: not writable.
  func pin(_ range: IOVARange) throws(ContainerError)
  func unpin(_ range: IOVARange)
}
