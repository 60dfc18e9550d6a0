public import Addressing

/// The first step of a plan, in bounded work.
public struct FirstStep: Hashable, Sendable {
  /// Nil when nothing to ask for was found: either there is no more, or ``next`` says where to look
  /// on.
  public let step: QueryPlan.Step?
  /// Where the rest of the plan begins; nil when this was all of it.
  public let next: IOVA?

  public init(step: QueryPlan.Step?, next: IOVA?) {
    self.step = step
    self.next = next
  }
}
