/// How much is done under one hold of a region's lock: some tens of microseconds. A mark, and with
/// it a guest's unmap, waits no longer, though somebody walks the bits of 4 TiB.
package struct HoldLimits: Sendable {
  /// Blocks of bits that are moved or marked: 32 KiB.
  package var blockCount = 8
  /// Lines that are looked at where hardly anything is found: 512 KiB.
  package var lineCount: UInt64 = 8192
  /// Pages and runs that a harvest takes.
  package var pageCount: UInt64 = 65536
  package var runCount = 1024
  /// Called when the lock is free and there is more to do. For tests, which do there what another
  /// thread might.
  package var between: (@Sendable () -> Void)?
  /// The hold of a walk, counted from 0, that is left out. For tests of tests.
  package var omittedHold: Int?
  /// Marks that belong before what was taken since are not written down again. For tests of tests.
  package var omitsOrder = false

  package init() {}
}
