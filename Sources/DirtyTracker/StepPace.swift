/// What a tracker takes its steps by.
package struct StepPace: Sendable {
  /// A step left out on purpose, to prove that a test notices.
  package enum Fault: Sendable {
    /// An unmap inside an owed range does not pay for what it removes.
    case unmapPaysNothing
    /// A map during a final sync marks nothing.
    case finalMapMarksNothing
    /// A restart owes nothing for the time in which nobody watched.
    case restartOwesNothing
  }

  /// Nanoseconds, never going back. Nil: windows do not adapt, and nobody is waited for.
  package var clock: (@Sendable () -> UInt64)?
  /// Gives the processor to another thread that could run: one that was woken for the lock may have
  /// to run on the processor of the one that waits for it to be done.
  package var rest: (@Sendable () -> Void)?
  /// What one step may do, where it is not to be adapted.
  package var fixedBounds: StepBounds?
  package var planted: Fault?

  package init(
    clock: (@Sendable () -> UInt64)? = nil, rest: (@Sendable () -> Void)? = nil,
    fixedBounds: StepBounds? = nil, planted: Fault? = nil
  ) {
    self.clock = clock
    self.rest = rest
    self.fixedBounds = fixedBounds
    self.planted = planted
  }
}
