/// The number of each event in a file. Numbers are never used again for something else.
enum EventKind: UInt8, CaseIterable {
  case trackerMade = 1
  case containerAdded = 2
  case containerRemoved = 3
  case attachmentChanged = 4
  case transactionBegan = 5
  case transactionCommitted = 6
  case regionAdded = 7
  case regionRemoved = 8
  case regionUnchanged = 9
  case globalLogStarted = 10
  case globalLogStopped = 11
  case logStarted = 12
  case logStopped = 13
  case logSynced = 14
  case logCleared = 15
  case ramDiscarded = 16
  case ramPopulated = 17
  case mapped = 18
  case unmapped = 19
  case unmappedByVMM = 20
  case translationsReplayed = 21
  case addressSpaceSwitched = 22
  case deviceWrote = 23
  case vcpuWrote = 24
  case vcpuCollected = 25
  case synced = 26
  case answered = 27
  case consumerAdded = 28
  case consumerRemoved = 29
  case harvested = 30
  case delivered = 31
  case putBack = 32
  case putBackAll = 33
  case allMarkedDirty = 34
  case allDirtyReset = 35
}
