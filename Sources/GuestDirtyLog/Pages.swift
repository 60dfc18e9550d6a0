import PageBitmap

/// A bitmap that may be absent, shared by name or exchanged. Only ever reached through the lock of
/// the region it belongs to.
final class Pages {
  var bits: PageBitmap
  init(_ bits: consuming PageBitmap) { self.bits = bits }
}

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

/// What one container holds back of a region.
final class HeldPages {
  let container: ContainerID
  /// Held since the last settling.
  var current: Pages?
  /// Found since then.
  var next: Pages?
  /// On the way into the log, a piece at a time.
  var releasing: Pages?
  /// Clean, kept to be used again.
  var spare: Pages?

  init(container: ContainerID) { self.container = container }

  var isClean: Bool { current?.bits.isEmpty ?? true && next?.bits.isEmpty ?? true }
}
