import EventTrace

/// The answers of backends, by the place of the event they belong to: the last operation of the
/// same container before them.
struct AnswersByEvent {
  private var answers: [Int: [BackendAnswer]] = [:]

  init(_ events: some Sequence<TrackerEvent>) {
    var operation: [UInt16: Int] = [:]
    for (index, event) in events.enumerated() {
      if case .answered(let answer) = event {
        // One without an operation was cut off it: nobody asks for it.
        if let owner = operation[answer.container] { answers[owner, default: []].append(answer) }
      } else if let container = event.container {
        operation[container] = index
      }
    }
  }

  subscript(index: Int) -> [BackendAnswer] { answers[index] ?? [] }
}
