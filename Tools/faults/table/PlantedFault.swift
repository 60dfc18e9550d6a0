/// One fault of the table: a line of Sources, and what a careless hand would have written there.
public struct PlantedFault: Hashable, Sendable {
  public enum Kind: String, Hashable, Sendable {
    /// An expression takes the place of another one.
    case value
    /// Statements take the place of others; of nothing, they are left out.
    case step
    /// The text holds both forms, and chooses by the word `PLANTED`.
    case text
  }

  public let name: String
  /// Under Sources.
  public let file: String
  public let kind: Kind
  /// It stands in the file once, white space aside; where ``context`` is given, once in that.
  public let old: String
  public let new: String
  /// A longer text around the old one, which stands in the file once.
  public let context: String?
  /// Test targets, or suites of them, that are run with the fault.
  public let tests: [String]
  /// Why it does no harm that no test notices; nil: a test has to.
  public let survives: String?

  public var module: String { file.split(separator: "/").first.map(String.init) ?? file }
}

/// A line of the table that cannot be read, or an entry that does not fit its file.
public struct FaultTableError: Error, Hashable, CustomStringConvertible {
  public let description: String
  public init(description: String) { self.description = description }
}
