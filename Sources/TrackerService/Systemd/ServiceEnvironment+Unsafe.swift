import Glibc

/// The variables of this process that its manager set.
///
/// Unsafe because the C library keeps them in memory that a change may move. Sound because each is
/// copied at once, and the service changes them before it starts a thread.
public enum ServiceEnvironment {
  /// Nil where it is not set.
  public static func value(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
  }

  /// So that no program started from here takes it for its own.
  public static func remove(_ name: String) { _ = unsafe unsetenv(name) }
}
