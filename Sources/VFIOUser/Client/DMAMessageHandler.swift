public import Addressing

/// Carries out DMA that a server asks for by message, on guest memory.
///
/// It is called while a command of this side awaits its answer, or while the client is served: it
/// must not call the client.
public protocol DMAMessageHandler: AnyObject, Sendable {
  /// Fills `bytes` from `iova` on.
  /// - Returns: 0, or the errno to answer.
  func read(into bytes: inout MutableRawSpan, at iova: IOVA) -> Int32

  /// Writes all of `bytes`, or nothing.
  /// - Returns: 0, or the errno to answer.
  func write(_ bytes: RawSpan, at iova: IOVA) -> Int32

  /// Asked before either of the others. True: it answers later by `answer`, from any thread, and
  /// neither of the others is called.
  func takesOver(_ request: VFIOUserRequest, _ answer: DMAAnswer) -> Bool
}

extension DMAMessageHandler {
  public func takesOver(_ request: VFIOUserRequest, _ answer: DMAAnswer) -> Bool { false }
}

/// Guest memory by GPA, as a client's container writes it for a server.
public protocol DMAMemory: AnyObject, Sendable {
  /// - Returns: false, and reads nothing, where the bytes do not lie in RAM.
  func read(into bytes: inout MutableRawSpan, at gpa: GPA) -> Bool
  /// - Returns: false, and writes nothing, where the bytes do not lie in RAM.
  func write(_ bytes: RawSpan, at gpa: GPA) -> Bool
}
