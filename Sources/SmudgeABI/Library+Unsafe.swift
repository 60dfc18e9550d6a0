import CSmudge

/// What the library is. Unsafe because of C strings; sound because the caller's end with 0, by the
/// rules of the header, and ours belong to the thread.
@c @implementation
public func smudge_version() -> UInt32 { 1 << 16 | 0 << 8 | 0 }

@c @implementation
public func smudge_last_error() -> UnsafePointer<CChar>? { unsafe smudge_thread_last_error() }

@c @implementation
public func smudge_has_feature(_ name: UnsafePointer<CChar>?) -> Int32 {
  guard let name = unsafe name else { return 0 }
  let features = ["vmm", "query", "type1", "iommufd", "shared-log", "record", "migration"]
  return features.contains(unsafe String(cString: name)) ? 1 : 0
}
