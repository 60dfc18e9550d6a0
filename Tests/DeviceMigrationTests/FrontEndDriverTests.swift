import DeviceMigration
import TestSupport
import Testing

@Suite struct FrontEndDriverTests {
  private func devices(_ plan: CallPlan) -> [ScriptedDevice] {
    [
      ScriptedDevice("a", .v1, contents: [1], plan: plan),
      ScriptedDevice("b", .v2([.stopCopy, .p2p, .precopy]), contents: [1], plan: plan),
      ScriptedDevice("c", .v2(.stopCopy), contents: [1], plan: plan),
    ]
  }

  @Test func `a change that is told twice does nothing the second time`() throws {
    let plan = CallPlan()
    let driver = DeviceStateDriver(devices: devices(plan), vm: .running)
    for _ in 0..<2 { try driver.migrationStateChanged(.setup) }
    for _ in 0..<2 { try driver.migrationStateChanged(.active) }
    for _ in 0..<2 { try driver.vmStateChanged(.finishMigrate) }
    #expect(plan.count == 3 + 3 + 3)
    try driver.vmStateChanged(.paused)
    try driver.vmStateChanged(.finishMigrate)
    #expect(plan.count == 9)
  }

  @Test func `every sequence of changes keeps the phases apart`() throws {
    enum Change: CaseIterable { case setup, cancelled, running, paused, finishMigrate }
    // All sequences of four changes.
    let all = Change.allCases
    for code in 0..<(all.count * all.count * all.count * all.count) {
      let plan = CallPlan()
      let driver = DeviceStateDriver(devices: devices(plan), vm: .running)
      var rest = code
      for _ in 0..<4 {
        let before = plan.journal.count
        switch all[rest % all.count] {
        case .setup: try driver.migrationStateChanged(.setup)
        case .cancelled: try driver.migrationStateChanged(.cancelled)
        case .running: try driver.vmStateChanged(.running)
        case .paused: try driver.vmStateChanged(.paused)
        case .finishMigrate: try driver.vmStateChanged(.finishMigrate)
        }
        rest /= all.count
        let steps = plan.journal[before...].map { $0.split(separator: " ")[1] }
        // Whole walks over all devices, one kind of step at a time.
        #expect(steps.count % 3 == 0)
        for walk in stride(from: 0, to: steps.count, by: 3) {
          #expect(Set(steps[walk..<(walk + 3)]).count == 1, "\(steps)")
        }
      }
    }
  }

  @Test func `pausing without a migration stops devices, running starts them`() throws {
    let plan = CallPlan()
    let all = devices(plan)
    let driver = DeviceStateDriver(devices: all, vm: .running)
    try driver.vmStateChanged(.paused)
    #expect(all.allSatisfy { $0.state == .stop })
    try driver.vmStateChanged(.running)
    #expect(all.allSatisfy { $0.state == .running })
  }

  @Test func `no device runs before the last one may be written to by its peers`() throws {
    let plan = CallPlan()
    let driver = DeviceStateDriver(devices: devices(plan), vm: .running)
    try driver.vmStateChanged(.paused)
    let before = plan.journal.count
    try driver.vmStateChanged(.running)
    #expect(
      plan.journal[before...] == [
        "a prepareToRun", "b prepareToRun", "c prepareToRun", "a run", "b run", "c run",
      ])
  }

  @Test(arguments: [MigrationStatus.failed, .cancelled])
  func `a VM that was paused stays so with its devices when its migration fails at the end`(
    status: MigrationStatus
  ) throws {
    let all = devices(CallPlan())
    let driver = DeviceStateDriver(devices: all, vm: .running)
    try driver.vmStateChanged(.paused)
    try driver.migrationStateChanged(.setup)
    try driver.vmStateChanged(.finishMigrate)
    try driver.migrationStateChanged(status)
    try driver.vmStateChanged(.paused)
    #expect(all.allSatisfy { $0.state == .stop }, "\(all.map(\.state))")
  }

  @Test func `recovery reaches every device, also past one that does not come back`() throws {
    let plan = CallPlan()
    let all = devices(plan)
    let driver = DeviceStateDriver(devices: all, vm: .running)
    try driver.migrationStateChanged(.setup)
    plan.failAt = plan.count + 1
    let aftermath = driver.recoverAll()
    #expect(aftermath.map(\.isLost) == [true, false, false])
    #expect(aftermath[0].description.contains("recover failed with EIO"))
    #expect(all[1].state == .running && all[2].state == .running)
  }
}
