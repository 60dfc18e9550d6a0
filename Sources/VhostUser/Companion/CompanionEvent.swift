/// What happens to a companion.
enum CompanionEvent: Hashable, Sendable {
  case connected
  case received(FrontEndMessage, needsReply: Bool)
  /// How `changeRAM` went; nil is well.
  case ramChanged(VhostUserError?)
  /// How `openLog` went.
  case logOpened(VhostUserError?)
  /// What the delegate said to `askStop`.
  case stopAnswered(VhostUserError?)
  case disconnected(VhostUserError)
}

/// What is to be done, in this order. After `changeRAM`, `openLog` and `askStop`, which are always
/// the last, the event of the same name is awaited and no message is read.
enum CompanionEffect: Hashable, Sendable {
  case changeRAM(RAMChange)
  case clearRAM
  case openLog(LogDescription)
  case closeLog
  case askStop
  case tell(CompanionNotice)
  case reply(BackEndReply)
  /// Closes the connection; the event `disconnected` follows.
  case close(VhostUserError)
}

enum RAMChange: Hashable, Sendable {
  case replace([RAMRegionDescription])
  case add(RAMRegionDescription)
  case remove(RAMRegionDescription)
}

/// A call of ``CompanionDelegate``.
enum CompanionNotice: Hashable, Sendable {
  case connected
  case trackingStarts(isLate: Bool)
  case logReplaced
  case trackingEnds
  case runsAgain
  case ramChanged
  case disconnected(VhostUserError)
}
