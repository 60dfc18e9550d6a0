import CSmudge
import SmudgeABI
import Testing

/// Exit tests, so they have a file without a folder of state: a build for debugging traps where one
/// for release returns a code.
@Suite struct DestroyedHandleTests {
  #if DEBUG
    @Test func `a build for debugging traps on a handle used after destroy`() async {
      await #expect(processExitsWith: .failure) {
        var tracker: OpaquePointer?
        _ = unsafe smudge_tracker_create(nil, &tracker)
        _ = unsafe smudge_tracker_destroy(tracker)
        _ = unsafe smudge_log_sync(tracker, 0, nil)
      }
    }
  #endif

  @Test func `a tracker that is there is not refused`() async {
    await #expect(processExitsWith: .success) {
      var tracker: OpaquePointer?
      guard unsafe smudge_tracker_create(nil, &tracker) == 0,
        unsafe smudge_log_sync(tracker, 0, nil) == 0,
        unsafe smudge_tracker_destroy(tracker) == 0
      else { preconditionFailure("it was refused") }
    }
  }
}
