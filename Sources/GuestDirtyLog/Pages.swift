import PageBitmap

/// What one consumer has of a region.
final class ConsumerShare {
  let consumer: ConsumerID
  /// Pages dirty for this consumer and not for every other one; nil while it is alone.
  var own: Pages?

  init(consumer: ConsumerID, own: Pages? = nil) {
    self.consumer = consumer
    self.own = own
  }
}

/// What one holder holds back of a region.
final class HeldPages {
  let holder: HolderID
  /// Held since the last settling.
  var current: Pages?
  /// Found since then.
  var next: Pages?
  /// On the way into the log, a piece at a time.
  var releasing: Pages?
  /// Clean, kept to be used again.
  var spare: Pages?

  init(holder: HolderID) { self.holder = holder }

  var isClean: Bool {
    [current, next, releasing].allSatisfy { $0?.bits.isEmpty ?? true }
  }
}
