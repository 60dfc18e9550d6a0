import Foundation

/// Whether this process may open the files it will need. Found out before anything is begun: what
/// the system's libraries open for themselves ends the process where it fails.
///
/// Unsafe in handing the kernel the address of a local, which it fills.
enum DescriptorCheck {
  /// A sample with its child: standard streams, the guest's memory twice, PAGEMAP_SCAN, the queues
  /// of signals and timers, the pipes of a process that is started, sockets and their wake-ups.
  private static let neededCount: Int32 = 40

  /// Foundation moves the descriptors of a process that it starts to numbers of its own, which a
  /// limit of 128 does not have.
  private static let limitForChild: rlim_t = 256

  /// Takes what the administrator allows, and counts what is left of it.
  static func run(startsChild: Bool = false) throws(ToolError) {
    var limit = rlimit()
    if unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0,
      limit.rlim_cur < limit.rlim_max
    {
      limit.rlim_cur = limit.rlim_max
      // Refused, it is as it was, and counted next.
      _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    if startsChild, limit.rlim_cur < limitForChild {
      throw ToolError(
        "a second process needs a limit of \(limitForChild) open files, and this one's is "
          + "\(limit.rlim_cur). Raise it, as by: ulimit -n \(limitForChild)")
    }
    var opened: [Int32] = []
    defer { for descriptor in opened { close(descriptor) } }
    while opened.count < neededCount {
      let descriptor = dup(STDERR_FILENO)
      guard descriptor >= 0 else {
        throw ToolError(
          "this needs \(neededCount) more file descriptors, and can open \(opened.count): "
            + "\(Output.errorText(errno)). Raise the limit, as by: ulimit -n 256")
      }
      opened.append(descriptor)
    }
  }
}
