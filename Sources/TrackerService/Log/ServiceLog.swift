import Locking

/// What the service says, a line a message, from any thread.
///
/// A reader that is slow or gone never makes the service wait: such a line is lost, and the next
/// one that goes out is preceded by a count of those. Where a reader of a pipe is gone the caller
/// must have SIGPIPE ignored, as the service's `main` has.
public final class ServiceLog: Sendable {
  /// The raw value is the journal's priority.
  public enum Level: Int, Sendable, CaseIterable {
    case error = 3
    case warning, notice, info, debug
  }

  public enum Format: String, Sendable, CaseIterable {
    /// `smudged: warning: VM: text`
    case plain
    /// `<4>VM: text`: the journal knows the program, and takes the number for the priority.
    case journal
  }

  /// Characters of a line.
  public static let lineCharacterCountMax = 2_000
  /// Bytes of a line with its end: what a pipe takes in one piece, between the lines of others.
  static let lineByteCountMax = 4_096

  public let format: Format
  private let descriptor: Int32
  private let lost = Mutex(0)

  /// - Parameters:
  ///   - format: nil for what the environment says, see ``format(for:journalStream:)``.
  ///   - descriptor: stays the caller's.
  public init(format: Format? = nil, descriptor: Int32 = 2) {
    self.descriptor = descriptor
    self.format =
      format
      ?? Self.format(for: descriptor, journalStream: ServiceEnvironment.value("JOURNAL_STREAM"))
  }

  /// The journal's where the descriptor is the very stream that systemd connected to it: a variable
  /// that was inherited past a redirection says nothing.
  static func format(for descriptor: Int32, journalStream: String?) -> Format {
    guard let journalStream, let file = LogCalls.file(of: descriptor) else { return .plain }
    return journalStream == "\(file.device):\(file.inode)" ? .journal : .plain
  }

  /// - Parameter vm: the name of the VM that it is about.
  public func write(_ level: Level, vm: String? = nil, _ text: String) {
    let line = Self.line(level, vm: vm, text, format)
    lost.withLock { lost in
      if lost > 0 {
        let note = "\(lost) lines before this one were lost, because nobody took them"
        guard send(Self.line(.warning, vm: nil, note, format)) else {
          lost += 1
          return
        }
        lost = 0
      }
      if !send(line) { lost += 1 }
    }
  }

  public func error(vm: String? = nil, _ text: String) { write(.error, vm: vm, text) }
  public func warning(vm: String? = nil, _ text: String) { write(.warning, vm: vm, text) }
  public func notice(vm: String? = nil, _ text: String) { write(.notice, vm: vm, text) }
  public func info(vm: String? = nil, _ text: String) { write(.info, vm: vm, text) }
  public func debug(vm: String? = nil, _ text: String) { write(.debug, vm: vm, text) }

  /// Lines that nobody took since the last that went out.
  var lostCount: Int { lost.withLock { $0 } }

  /// Without the end of the line.
  static func line(_ level: Level, vm: String?, _ text: String, _ format: Format) -> String {
    let head =
      switch format {
      case .plain: "smudged: \(level): "
      case .journal: "<\(level.rawValue)>"
      }
    let body = (vm.map { "\($0): " } ?? "") + text
    return LogText.cut(
      head + LogText.escaped(body), characterCount: lineCharacterCountMax,
      byteCount: lineByteCountMax - 1)
  }

  private func send(_ line: String) -> Bool { LogCalls.write(line + "\n", to: descriptor) }
}
