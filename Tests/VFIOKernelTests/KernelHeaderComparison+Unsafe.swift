import CKernelHeaders

/// One of our declarations beside that of the machine's headers.
///
/// Unsafe because its name is a C string. Sound because that is a literal.
struct KernelHeaderComparison {
  static var count: Int { smudge_vfio_comparison_count() }

  let name: String
  let ours: UInt64
  let theirs: UInt64

  init(_ index: Int) {
    precondition(index >= 0 && index < Self.count)
    let comparison = unsafe smudge_vfio_comparison(index)
    name = unsafe String(cString: comparison.name)
    ours = unsafe comparison.ours
    theirs = unsafe comparison.theirs
  }
}
