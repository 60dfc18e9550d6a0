/// A simulated device as what it works on sees it.
public protocol WorkingDevice: AnyObject, Sendable {
  var name: String { get }

  /// Calls `body` while the device can not change its state, if its state lets it write memory:
  /// RUNNING, RUNNING_P2P, PRE_COPY and PRE_COPY_P2P. (A P2P state forbids to begin DMA to other
  /// devices, not to memory.) `body` must not call the device.
  ///
  /// So a change of state waits for the write that is under way, and none comes after it: a query
  /// of the dirty log after STOP_COPY is the last one needed, one before is not.
  /// - Returns: nil, without calling `body`, in every other state.
  func whileItMayWrite<R: Sendable>(_ body: (inout DeviceImage) -> R) -> R?

  /// Equal for two devices that hold the same state.
  var stateDigest: UInt64 { get }
}

extension WorkingDevice {
  /// The device works on its own, without memory: changes `count` registers and pages.
  /// - Returns: false when its state does not let it.
  @discardableResult
  public func work(_ count: Int, seed: UInt64) -> Bool {
    whileItMayWrite { image in
      var value = seed
      for _ in 0..<count {
        value = value &* 0x5851_f42d_4c95_7f2d &+ 0x1405_7b7e_f767_814f
        image.work(value ^ value >> 31)
      }
      return true
    } ?? false
  }
}
