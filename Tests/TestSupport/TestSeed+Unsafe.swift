import Glibc

/// The seed of a random test run. `SMUDGE_SEED` fixes it; otherwise each test has its own constant,
/// so that a run is the same everywhere until somebody asks for another.
public enum TestSeed {
  public static func seed(default value: UInt64) -> UInt64 {
    guard let text = unsafe getenv("SMUDGE_SEED"), let seed = UInt64(unsafe String(cString: text))
    else { return value }
    return seed
  }

  /// What a failing random test prints: the command that runs it again.
  public static func reproduce(_ seed: UInt64, filter: String) -> String {
    "reproduce with: SMUDGE_SEED=\(seed) swift test --filter \(filter)"
  }
}
