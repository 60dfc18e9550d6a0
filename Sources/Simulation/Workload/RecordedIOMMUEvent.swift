public import Addressing

/// One line of a recording of the kernel's `iommu` trace events, in the recorded guest's addresses.
public enum RecordedIOMMUEvent: Hashable, Sendable {
  case map(IOVARange, gpa: GPA)
  case unmap(IOVARange)
}
