import Testing

@Suite struct KernelHeadersTests {
  /// What the headers of this machine declare; older ones declare less, and the kernel's are
  /// asserted in C either way.
  @Test func `our numbers, sizes and offsets are those of this machine's linux vfio h`() {
    let count = KernelHeaderComparison.count
    var names: [String] = []
    for index in 0..<count {
      let comparison = KernelHeaderComparison(index)
      #expect(comparison.ours == comparison.theirs, "\(comparison.name)")
      names.append(comparison.name)
    }
    #expect(Set(names).count == names.count)
    print("linux/vfio.h of this machine: \(count) compared: \(names.joined(separator: ", "))")
  }
}
