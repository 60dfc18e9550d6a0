import GuestDirtyLog

/// What the memory listener was told since `begin`. The commit removes first, then adds: a region
/// that changes an attribute is removed and added again, and both may have the same GPA.
struct RAMTransaction: Sendable {
  var removed: [RAMRegion] = []
  var added: [RAMRegion] = []
}
