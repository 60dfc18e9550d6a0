/// What a test of the lab found, printed line by line as it is found.
struct LabResult {
  private(set) var heldCount = 0
  private(set) var failures: [String] = []
  /// What `probe` was asked to end with.
  var wantedStatus: Int32?

  var status: Int32 { wantedStatus ?? (failures.isEmpty ? 0 : 1) }

  /// - Parameter detail: what was seen instead, printed when it does not hold.
  mutating func check(_ sentence: String, _ holds: Bool, _ detail: @autoclosure () -> String = "") {
    if holds {
      heldCount += 1
      print("ok \(sentence)")
    } else {
      let seen = detail()
      failures.append(sentence)
      print("not ok \(sentence)\(seen.isEmpty ? "" : ": \(seen)")")
    }
  }

  mutating func expect<Value: Equatable>(_ sentence: String, _ seen: Value, is wanted: Value) {
    check(sentence, seen == wanted, "it is \(seen), not \(wanted)")
  }
}
