public import DMAContainer
import Locking

/// Which backend calls fail, and a count of all of them. One plan may serve several containers and
/// logs, so that "the n-th backend call" counts over all of them.
public final class FaultPlan: Sendable {
  /// When a call fails.
  public enum Moment: Sendable, Hashable, CaseIterable {
    /// Nothing has happened.
    case before
    /// An unmap has removed the first half of its mappings; a query has reported, and cleared, the
    /// first half of its window. Other calls: as ``before``.
    case halfway
    /// The effect is there, the answer is not: a query has cleared the log and reports nothing, a
    /// log is started, mappings are gone. A map is undone, as every backend promises.
    case after
  }

  public struct Fault: Sendable, Hashable {
    /// Nil: any operation.
    public var operation: ContainerError.Operation?
    /// The how manieth call of that operation, counted from 1 since the plan was made or reset.
    public var ordinal: Int
    /// A positive errno of Linux.
    public var errno: Int32
    public var moment: Moment
    /// Every later call of the operation fails too.
    public var isLasting: Bool

    public init(
      _ operation: ContainerError.Operation?, ordinal: Int, errno: Int32,
      moment: Moment = .before, isLasting: Bool = false
    ) {
      self.operation = operation
      self.ordinal = ordinal
      self.errno = errno
      self.moment = moment
      self.isLasting = isLasting
    }
  }

  private struct State {
    var faults: [Fault]
    var counts: [ContainerError.Operation: Int] = [:]
    var callCount = 0
    var failedCount = 0
  }

  private let state: Mutex<State>

  public init(_ faults: [Fault] = []) { state = Mutex(State(faults: faults)) }

  public func add(_ fault: Fault) { state.withLock { $0.faults.append(fault) } }

  /// Backend calls so far, failed ones counted.
  public var callCount: Int { state.withLock { $0.callCount } }
  public var failedCount: Int { state.withLock { $0.failedCount } }
  public func count(of operation: ContainerError.Operation) -> Int {
    state.withLock { $0.counts[operation] ?? 0 }
  }

  /// Forgets all counts, and takes up new faults.
  public func reset(_ faults: [Fault] = []) { state.withLock { $0 = State(faults: faults) } }

  /// Counts a call.
  /// - Returns: the fault it meets.
  func take(_ operation: ContainerError.Operation) -> Fault? {
    state.withLock { state in
      state.callCount += 1
      state.counts[operation, default: 0] += 1
      let ordinal = state.counts[operation] ?? 0
      let all = state.callCount
      let fault = state.faults.first { fault in
        guard fault.operation == nil || fault.operation == operation else { return false }
        let count = fault.operation == nil ? all : ordinal
        return fault.isLasting ? count >= fault.ordinal : count == fault.ordinal
      }
      if fault != nil { state.failedCount += 1 }
      return fault
    }
  }
}

extension FaultPlan.Fault {
  func error(
    _ operation: ContainerError.Operation, _ object: String, isPartial: Bool = false,
    isGone: Bool = false
  ) -> ContainerError {
    ContainerError(
      operation, object: object, errno: errno, detail: "a fault of the plan", isPartial: isPartial,
      isGone: isGone)
  }
}
