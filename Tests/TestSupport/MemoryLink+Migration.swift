public import DeviceMigration

/// What became of one migration over a link.
public struct MigrationAttempt {
  public var report: MigrationReport?
  public var sourceError: MigrationError?
  public var destinationError: MigrationError?

  public init() {}
}

extension MemoryLink {
  /// Runs both sides to their end, on this thread. A destination that failed or came to its end
  /// takes no more steps; one whose source gave up still has to notice.
  public func run(
    _ source: MigrationSource, to destination: MigrationDestination
  ) -> MigrationAttempt {
    var attempt = MigrationAttempt()
    var isDone = false
    destination.open(self.destination)
    func advance() -> Bool {
      guard !isDone else { return false }
      do throws(MigrationError) {
        isDone = try !destination.step()
      } catch {
        attempt.destinationError = error
        isDone = true
      }
      return !isDone
    }
    step = advance
    do throws(MigrationError) {
      attempt.report = try source.run(over: self.source)
    } catch {
      attempt.sourceError = error
    }
    while !destination.isGuestRunning, advance() {}
    step = nil
    return attempt
  }
}
