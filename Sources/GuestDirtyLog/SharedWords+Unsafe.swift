/// Words lent to workers on other threads.
///
/// Unsafe because a span may not be captured by work that runs elsewhere. Sound because the lender
/// waits for all workers before its span ends, and they only read.
@safe struct SharedWords: @unchecked Sendable {
  private let words: UnsafeBufferPointer<UInt64>

  private init(_ words: UnsafeBufferPointer<UInt64>) { unsafe self.words = words }

  func withSpan<R>(_ body: (Span<UInt64>) -> R) -> R { unsafe body(words.span) }

  /// `body` must not return before everybody it gave the words to is done.
  static func lending<R>(_ span: Span<UInt64>, _ body: (SharedWords) -> R) -> R {
    unsafe span.withUnsafeBufferPointer { words in body(unsafe SharedWords(words)) }
  }
}
