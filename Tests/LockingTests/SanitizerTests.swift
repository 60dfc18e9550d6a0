import Testing

/// That a silent sanitizer means something. Each planted fault runs in a process of its own, so
/// these are the suite's slow tests; the same tests run without a sanitizer, where each process
/// must simply come to its end.
@Suite struct SanitizerTests {
  /// What ThreadSanitizer makes of an exit status when it has reported something.
  static let raceFound: ExitTest.Condition =
    Sanitizer.linked == .thread ? .exitCode(66) : .success

  @Test func `the sanitizer that was asked for is the one that runs`() {
    if let wished = Sanitizer.wished { #expect(Sanitizer.linked.rawValue == wished) }
  }

  @Test func `a race of two threads is found`() async {
    await #expect(processExitsWith: Self.raceFound) { try PlantedFaults.race() }
  }

  @Test func `what one lock guards is no race`() async {
    await #expect(processExitsWith: .success) { try PlantedFaults.guardedByOneLock() }
  }

  @Test func `a race under two different locks is found`() async {
    await #expect(processExitsWith: Self.raceFound) { try PlantedFaults.guardedByTwoLocks() }
  }

  @Test func `a race just before and just after the lock is found`() async {
    await #expect(processExitsWith: Self.raceFound) { try PlantedFaults.besideTheLock() }
  }

  @Test func `a race with a kernel written in C is found, however wide its registers are`() async {
    await #expect(processExitsWith: Self.raceFound) { try PlantedFaults.raceInKernel() }
  }

  @Test func `a read past the end of an allocation is found`() async throws {
    let overrunFound: ExitTest.Condition =
      Sanitizer.linked == .address ? .exitCode(1) : .success
    let result = await #expect(
      processExitsWith: overrunFound, observing: [\.standardErrorContent]
    ) { PlantedFaults.readPastTheEnd() }
    if Sanitizer.linked == .address {
      let said = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
      #expect(said.contains("heap-buffer-overflow"))
    }
  }
}
