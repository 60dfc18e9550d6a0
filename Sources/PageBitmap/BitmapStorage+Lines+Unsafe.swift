import Addressing
import CBitmapKernels

extension BitmapStorage {
  /// Moves lines of an answer here: what it has dirty under mappings of one line of both.
  ///
  /// Unsafe because the kernel reads mappings where a table has them, and writes the answer. Sound
  /// because the caller holds the table still, `PackedMappings` and `smudge_packed` have the same
  /// layout, which a test holds, and the answer's words have a bit for each page of the window,
  /// which a query checked when it took the window up.
  mutating func moveLines(
    from answer: inout QueryStorage, _ window: IOVARange, _ pageSize: PageSize,
    through leaves: Span<PackedMappings>, gpaFirst: GPA
  ) -> MovedLines {
    var moved = MovedLines()
    unsafe leaves.withUnsafeBufferPointer { leaves in
      guard let first = leaves.baseAddress else { return }
      unsafe first.withMemoryRebound(to: smudge_packed.self, capacity: leaves.count) { packed in
        unsafe answer.takeBits { words, clearWordCount in
          var call = unsafe smudge_line_move(
            target: kernelView, target_gpa_first: gpaFirst.rawValue, answer: words,
            window_first: window.first.rawValue, window_last: window.last.rawValue,
            page_shift: pageSize.shift, write_permission: Permissions.write.rawValue,
            streams: streams ? 1 : 0, clear_word_count: clearWordCount, left_count: 0, hit_count: 0,
            newly_count: 0)
          unsafe smudge_packed_move_lines(packed, leaves.count, &call)
          unsafe moved.count.dirtyPages = call.hit_count
          unsafe moved.count.newlyDirtyPages = call.newly_count
          unsafe moved.leftCount = call.left_count
          return unsafe call.clear_word_count
        }
      }
    }
    return moved
  }
}
