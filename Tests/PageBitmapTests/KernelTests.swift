import Testing

/// Suites that force a kernel level, which holds for the whole process: one after the other.
@Suite(.serialized) enum KernelTests {}
