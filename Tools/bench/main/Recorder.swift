/// The times of every contender in every case.
final class Recorder {
  private var samples: [String: [String: [Double]]] = [:]
  private(set) var skipped: [String: String] = [:]
  static let own = "smudge"

  /// Runs `body` and keeps how long it took, in seconds of this thread's CPU: what others do on the
  /// machine in the meantime is not counted.
  func time<R>(_ name: String, _ contender: String = Recorder.own, _ body: () throws -> R) rethrows
    -> R
  {
    let start = Clock.threadSeconds()
    let result = try body()
    record(name, contender, value: Clock.threadSeconds() - start)
    return result
  }

  /// The same by the clock on the wall, for work of more than this thread.
  func timeOnWall<R>(
    _ name: String, _ contender: String = Recorder.own, _ body: () throws -> R
  ) rethrows -> R {
    let start = Clock.wallSeconds()
    let result = try body()
    record(name, contender, value: Clock.wallSeconds() - start)
    return result
  }

  /// The same by the processor time of all threads.
  func timeOnCores<R>(_ name: String, _ contender: String, _ body: () throws -> R) rethrows -> R {
    let start = Clock.processSeconds()
    let result = try body()
    record(name, contender, value: Clock.processSeconds() - start)
    return result
  }

  func record(_ name: String, _ contender: String = Recorder.own, value: Double) {
    samples[name, default: [:]][contender, default: []].append(value)
  }

  /// Says why a peer has no times.
  func skip(_ peer: String, because reason: String) { skipped[peer] = reason }

  func samples(_ name: String, _ contender: String) -> [Double] {
    samples[name]?[contender] ?? []
  }

  func outcome(_ row: Row) -> Outcome {
    let ours = samples(row.name, Recorder.own).sorted()
    let peers = row.isPlainNumber ? [1] : samples(row.name, row.peer).sorted()
    guard let best = ours.first, let peerBest = peers.first else {
      return Outcome(
        name: row.name, peer: row.peer, target: row.target, ours: ours.first, theirs: peers.first,
        ratio: nil, medianRatio: nil, meets: nil, skipped: skipped[row.peer] ?? "not run")
    }
    let ratio = best / peerBest
    return Outcome(
      name: row.name, peer: row.peer, target: row.target, ours: best,
      theirs: row.isPlainNumber ? nil : peerBest, ratio: ratio,
      medianRatio: ours[ours.count / 2] / peers[peers.count / 2], meets: ratio <= row.target,
      skipped: nil)
  }
}

/// What a row came to. Times are seconds, the least of all repetitions; the median ratio divides
/// the medians.
struct Outcome: Codable {
  let name: String
  let peer: String
  let target: Double
  let ours: Double?
  let theirs: Double?
  let ratio: Double?
  let medianRatio: Double?
  let meets: Bool?
  let skipped: String?
}
