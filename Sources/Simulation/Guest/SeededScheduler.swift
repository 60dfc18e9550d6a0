/// Runs the parts of a machine in turn on one thread, in an order that one seed decides: the same
/// seed is the same run.
public struct SeededScheduler {
  private struct Part {
    let name: String
    let weight: UInt64
    let step: () -> Void
  }

  private var random: SplitMix64
  private var parts: [Part] = []
  private var totalWeight: UInt64 = 0
  /// Steps run.
  public private(set) var stepCount: UInt64 = 0

  public init(seed: UInt64) { random = SplitMix64(seed: seed) }

  /// Adds a part.
  /// - Parameter weight: its steps, in proportion to the other parts' weights.
  /// - Precondition: `weight` is 1 to 2^32.
  public mutating func add(_ name: String, weight: UInt64 = 1, step: @escaping () -> Void) {
    precondition(weight >= 1 && weight <= 1 << 32, "a part has a weight of 1 to 2^32")
    parts.append(Part(name: name, weight: weight, step: step))
    totalWeight &+= weight
  }

  /// Runs one step of one part.
  /// - Returns: the part's name.
  /// - Precondition: there is a part.
  @discardableResult
  public mutating func step() -> String {
    precondition(!parts.isEmpty, "a scheduler needs a part to run")
    var ticket = random.below(totalWeight)
    stepCount &+= 1
    for part in parts {
      if ticket < part.weight {
        part.step()
        return part.name
      }
      ticket &-= part.weight
    }
    preconditionFailure("a ticket lies under the sum of the weights")
  }

  public mutating func run(stepCount count: Int) {
    for _ in 0..<count { step() }
  }
}
