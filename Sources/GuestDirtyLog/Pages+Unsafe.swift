import PageBitmap

/// A bitmap that may be absent, shared by name or exchanged.
///
/// Unsafe because it may be sent though it changes. Sound because it is only ever reached through
/// the lock of the region it belongs to; one that was taken out of there has no other holder, and
/// is freed where nobody waits for the lock: 128 MiB take milliseconds.
final class Pages: @unchecked Sendable {
  var bits: PageBitmap
  init(_ bits: consuming PageBitmap) { self.bits = bits }
}
