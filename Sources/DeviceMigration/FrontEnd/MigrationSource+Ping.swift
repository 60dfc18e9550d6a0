/// How long an answer of the destination takes, asked for while the guest runs.
extension MigrationSource {
  /// What is known of the destination's answers.
  struct Pinging {
    /// Its `accepted` said so. A destination that does not is measured by that word alone, which
    /// holds its start-up as well.
    var isAnswered = false
    var acceptedNanoseconds: UInt64?
    var count: UInt32 = 0
  }

  /// Two pings, one after the other: the first arrives behind all that was written, the second
  /// finds nothing on the way. What they differ by is the time in which buffers drained.
  /// - Returns: how long the second took; nil where nobody answers.
  func measureAnswers() throws(MigrationError.Cause) -> UInt64? {
    guard pinging.isAnswered else { return pinging.acceptedNanoseconds }
    let behind = try ping()
    let alone = try ping()
    pace.drained(nanoseconds: behind - min(behind, alone))
    return alone
  }

  private func ping() throws(MigrationError.Cause) -> UInt64 {
    pinging.count &+= 1
    let number = pinging.count
    let asked = clock()
    try write { (writer) throws(ChannelError) in try writer.write(.ping, count: number) }
    let pong = try expect(.pong)
    guard pong.count == number else {
      throw .stream(
        StreamError(
          .malformed(.pong, "it answers ping \(pong.count), and \(number) was sent"),
          offset: link?.answers?.sectionOffset ?? 0))
    }
    // No walk took longer than all that came before the destination's first word.
    estimator.walkedThere(nanoseconds: min(pong.argument, pinging.acceptedNanoseconds ?? 0))
    return clock() &- asked
  }
}
