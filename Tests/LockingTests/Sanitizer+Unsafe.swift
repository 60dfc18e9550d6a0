import Glibc

/// What this process is built with, asked of the process itself: `Tools/test --sanitize` says only
/// what it wished for.
///
/// Unsafe because symbols are looked up by C strings. Sound because no address found is ever used.
enum Sanitizer: String {
  case none, thread, address

  static var linked: Self {
    if unsafe dlsym(nil, "__tsan_init") != nil { return .thread }
    return unsafe dlsym(nil, "__asan_init") != nil ? .address : .none
  }

  /// The name `Tools/test --sanitize` was given; nil outside of it.
  static var wished: String? {
    guard let text = unsafe getenv("SMUDGE_SANITIZER") else { return nil }
    return unsafe String(cString: text)
  }
}
