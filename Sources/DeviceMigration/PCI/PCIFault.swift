/// What is wrong with a PCI configuration that is to be saved or restored.
public enum PCIFault: Hashable, Sendable, CustomStringConvertible {
  /// The saved bytes end early, carry bytes too many, or their checks fail.
  case damaged(String)

  public var description: String {
    switch self {
    case .damaged(let what): "the saved configuration is damaged: \(what)"
    }
  }
}
