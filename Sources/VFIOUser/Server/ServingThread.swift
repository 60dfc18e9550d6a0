import Glibc

/// The thread that makes it, to be compared with another.
struct ServingThread: Hashable, Sendable {
  private let handle = UInt(pthread_self())

  init() {}
}
