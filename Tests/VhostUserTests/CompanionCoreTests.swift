import Addressing
import TestSupport
import Testing

@testable import VhostUser

/// The life of a companion against its naive model, over every short sequence of steps.
@Suite struct CompanionCoreTests {
  private typealias Step = NaiveCompanion.Step

  /// What the delegate and the owner of the log were told, from the effects.
  private struct Heard: Hashable {
    var isConnected = false
    var isTracking = false
    var hasLog = false
    var isQuiet = false
    var problems: [String] = []
  }

  private enum Fault { case none, answersBeforeStop, forgetsQuiet, keepsLogAfterStop }

  /// Feeds a step and the answers it leads to; keeps what is heard.
  private static func feed(
    _ step: Step, _ core: inout CompanionCore, _ heard: inout Heard, fault: Fault = .none
  ) {
    let base = LogDescription(byteCount: 8, offset: 0)
    func message(_ message: FrontEndMessage) -> CompanionEvent {
      .received(message, needsReply: false)
    }
    let event: CompanionEvent
    var answer: VhostUserError?
    switch step {
    case .connect:
      guard core.connection == nil else { return }
      event = .connected
    case .access:
      if core.noteAccess() { heard.isQuiet = false }
      return
    default:
      guard core.connection != nil else { return }
      switch step {
      case .disconnect: event = .disconnected(.closedByFrontEnd)
      case .logOn: event = message(.setFeatures([.logAll, .protocolFeatures]))
      case .logOff: event = message(.setFeatures([.protocolFeatures]))
      case .logBase: event = message(.setLogBase(base))
      case .badLogBase:
        event = message(.setLogBase(base))
        answer = .logNotSealed
      case .kick: event = message(.setRingKick(RingDescriptor(ring: 0, hasDescriptor: true)))
      case .enable: event = message(.setRingEnable(RingNumber(ring: 0, value: 1)))
      case .disable: event = message(.setRingEnable(RingNumber(ring: 0, value: 0)))
      case .reset: event = message(.resetDevice)
      case .ringBaseRefused:
        event = message(.getRingBase(RingNumber(ring: 0, value: 0)))
        answer = .stopRefused("no")
      default: event = message(.getRingBase(RingNumber(ring: 0, value: 0)))
      }
    }
    carryOut(core.handle(event), answer, &core, &heard, fault)
  }

  private static func carryOut(
    _ effects: [CompanionEffect], _ answer: VhostUserError?, _ core: inout CompanionCore,
    _ heard: inout Heard, _ fault: Fault
  ) {
    for effect in effects {
      switch effect {
      case .openLog:
        heard.hasLog = answer == nil
        carryOut(core.handle(.logOpened(answer)), nil, &core, &heard, fault)
      case .closeLog: if fault != .keepsLogAfterStop { heard.hasLog = false }
      case .askStop:
        // A fault: the front-end has its answer, and devices write on.
        if fault != .answersBeforeStop { heard.isQuiet = answer == nil }
        carryOut(core.handle(.stopAnswered(answer)), nil, &core, &heard, fault)
      case .close(let reason):
        carryOut(core.handle(.disconnected(reason)), nil, &core, &heard, fault)
      case .reply(.ring):
        if !heard.isQuiet { heard.problems.append("a stop was answered while devices write") }
        if heard.hasLog, !(core.connection?.isStarted ?? false) {
          heard.problems.append("a log stays open after the stop")
        }
      case .tell(let notice): hear(notice, &heard, fault)
      case .reply, .changeRAM, .clearRAM: break
      }
    }
  }

  private static func hear(_ notice: CompanionNotice, _ heard: inout Heard, _ fault: Fault) {
    func expect(_ condition: Bool) {
      if !condition { heard.problems.append("\(notice) out of place") }
    }
    switch notice {
    case .connected:
      expect(!heard.isConnected)
      heard.isConnected = true
    case .disconnected:
      expect(heard.isConnected && !heard.isTracking && !heard.hasLog)
      heard.isConnected = false
    case .trackingStarts:
      expect(!heard.isTracking && heard.hasLog)
      heard.isTracking = true
    case .logReplaced: expect(heard.isTracking && heard.hasLog)
    case .trackingEnds:
      expect(heard.isTracking)
      heard.isTracking = false
    case .runsAgain:
      expect(heard.isQuiet)
      if fault != .forgetsQuiet { heard.isQuiet = false }
    case .ramChanged: break
    }
  }

  private static func difference(
    _ core: CompanionCore, _ heard: Heard, _ model: NaiveCompanion
  ) -> String? {
    let status = core.status
    if let problem = heard.problems.first { return problem }
    if (status.phase != .notConnected) != model.isConnected { return "connection" }
    if heard.isConnected != model.isConnected { return "connection told" }
    if (status.phase == .started) != model.isStarted { return "started" }
    if status.wantsLog != model.wantsLog { return "wants log" }
    if status.isTracking != model.isTracking { return "tracking" }
    if heard.isTracking != model.isTracking { return "tracking told" }
    if heard.hasLog != model.hasLog { return "log" }
    if status.isQuiet != model.isQuiet { return "quiet" }
    if heard.isQuiet != model.isQuiet { return "quiet told" }
    return nil
  }

  /// Depth first: each sequence goes on from the state its beginning left.
  private static func explore(
    _ depth: Int, _ core: CompanionCore, _ heard: Heard, _ model: NaiveCompanion, _ fault: Fault,
    _ found: inout [String], _ count: inout Int
  ) {
    if depth == 0 || found.count > 5 { return }
    for step in Step.allCases {
      var (core, heard) = (core, heard)
      feed(step, &core, &heard, fault: fault)
      let model = NaiveCompanion(model.steps + [step])
      count += 1
      if let difference = difference(core, heard, model) {
        found.append("\(difference) after \(model.steps)")
        continue
      }
      explore(depth - 1, core, heard, model, fault, &found, &count)
    }
  }

  /// From a connection on, and from one that tracks: the sequences reach further so.
  private static func exploreAll(_ depth: Int, _ fault: Fault = .none) -> (found: [String], Int) {
    let beginnings: [[Step]] = [
      [], [.connect, .kick, .enable, .logBase, .logOn],
      [.connect, .logOn, .kick, .badLogBase], [.connect, .enable, .ringBase],
    ]
    var found: [String] = []
    var count = 0
    for beginning in beginnings {
      var (core, heard) = (CompanionCore(), Heard())
      for step in beginning { feed(step, &core, &heard, fault: fault) }
      // Before a connection nothing but that can happen.
      let depth = beginning.isEmpty ? depth - 1 : depth
      explore(depth, core, heard, NaiveCompanion(beginning), fault, &found, &count)
    }
    return (found, count)
  }

  @Test func `every short life agrees with the naive model`() {
    let (found, count) = Self.exploreAll(4)
    #expect(found == [])
    #expect(count > 60_000)
  }

  @Test func `long random lives agree with the naive model`() {
    let seed = TestSeed.seed(default: 0x6c69)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<200 {
      var (core, heard, steps) = (CompanionCore(), Heard(), [Step]())
      for _ in 0..<40 {
        let step = Step.allCases[random.below(Step.allCases.count)]
        Self.feed(step, &core, &heard)
        steps.append(step)
        let difference = Self.difference(core, heard, NaiveCompanion(steps))
        #expect(
          difference == nil,
          "\(steps) \(TestSeed.reproduce(seed, filter: "CompanionCoreTests"))")
        if difference != nil { return }
      }
    }
  }

  @Test func `the model notices each planted fault`() {
    for fault in [Fault.answersBeforeStop, .forgetsQuiet, .keepsLogAfterStop] {
      #expect(!Self.exploreAll(3, fault).found.isEmpty, "\(fault)")
    }
  }

  private static func connected() -> CompanionCore {
    var core = CompanionCore()
    _ = core.handle(.connected)
    _ = core.handle(.received(.setProtocolFeatures(.offered), needsReply: false))
    return core
  }

  private static let features: VirtioFeatures = [.version1, .protocolFeatures]

  @Test func `a start in the middle of a migration is late, one before it is not`() {
    let base = CompanionEvent.received(
      .setLogBase(LogDescription(byteCount: 8, offset: 0)), needsReply: false)
    let kick = CompanionEvent.received(
      .setRingKick(RingDescriptor(ring: 0, hasDescriptor: true)), needsReply: true)
    let log = CompanionEvent.received(
      .setFeatures(Self.features.union(.logAll)), needsReply: true)
    // The device runs, the migration begins: log first, then the feature.
    var core = Self.connected()
    #expect(core.handle(kick) == [.reply(.number(.setRingKick, 0))])
    #expect(core.handle(base) == [.openLog(LogDescription(byteCount: 8, offset: 0))])
    #expect(core.handle(.logOpened(nil)) == [.reply(.number(.setLogBase, 0))])
    #expect(
      core.handle(log)
        == [.tell(.trackingStarts(isLate: false)), .reply(.number(.setFeatures, 0))])
    // The migration runs, the guest starts the device: feature first, then kick, then log.
    core = Self.connected()
    #expect(core.handle(log) == [.reply(.number(.setFeatures, 0))])
    _ = core.handle(kick)
    _ = core.handle(base)
    #expect(
      core.handle(.logOpened(nil))
        == [.tell(.trackingStarts(isLate: true)), .reply(.number(.setLogBase, 0))])
    // It runs, but what it wrote between the feature and the log is in none.
    core = Self.connected()
    _ = core.handle(kick)
    _ = core.handle(log)
    _ = core.handle(base)
    #expect(core.handle(.logOpened(nil)).first == .tell(.trackingStarts(isLate: true)))
  }

  @Test func `of several rings the last one that stops closes the log`() {
    var core = Self.connected()
    func stop(_ ring: UInt32) -> [CompanionEffect] {
      let asked = core.handle(
        .received(.getRingBase(RingNumber(ring: ring, value: 0)), needsReply: false))
      #expect(asked == [.askStop])
      #expect(core.status.phase == .stopping && !core.noteAccess())
      return core.handle(.stopAnswered(nil))
    }
    for ring in 0..<3 as Range<UInt8> {
      _ = core.handle(
        .received(
          .setRingBase(RingNumber(ring: UInt32(ring), value: UInt32(ring) + 40)), needsReply: false)
      )
      _ = core.handle(
        .received(.setRingKick(RingDescriptor(ring: ring, hasDescriptor: false)), needsReply: false)
      )
    }
    _ = core.handle(
      .received(.setLogBase(LogDescription(byteCount: 8, offset: 0)), needsReply: false))
    _ = core.handle(.logOpened(nil))
    func reply(_ ring: UInt32) -> CompanionEffect {
      .reply(.ring(.getRingBase, RingNumber(ring: ring, value: ring + 40)))
    }
    #expect(stop(1) == [reply(1)])
    #expect(stop(0) == [reply(0)])
    #expect(core.status.phase == .started && core.status.isQuiet)
    #expect(stop(2) == [.closeLog, reply(2)])
    #expect(core.status.phase == .stopped)
    #expect(core.noteAccess() && !core.noteAccess())
  }

  @Test func `acknowledgements come when negotiated and asked for, answers always`() {
    var core = CompanionCore()
    _ = core.handle(.connected)
    let owner = CompanionEvent.received(.setOwner, needsReply: true)
    #expect(core.handle(owner) == [])
    #expect(
      core.handle(.received(.getFeatures, needsReply: false))
        == [.reply(.number(.getFeatures, 0x1_4400_0000))])
    #expect(
      core.handle(.received(.getProtocolFeatures, needsReply: false))
        == [.reply(.number(.getProtocolFeatures, 0x820b))])
    let bad = CompanionEvent.received(.setMemoryTable([]), needsReply: true)
    let error = VhostUserError.emptyRegion(gpa: GPA(0))
    #expect(core.handle(bad) == [.changeRAM(.replace([]))])
    #expect(core.handle(.ramChanged(error)) == [.close(error)])
    for message in [FrontEndMessage.getQueueCount, .getMemorySlotCount] {
      #expect(
        core.handle(.received(message, needsReply: false))
          == [.close(.notNegotiated(message.request))])
    }
    _ = core.handle(.received(.setProtocolFeatures(.offered), needsReply: false))
    #expect(core.handle(owner) == [.reply(.number(.setOwner, 0))])
    #expect(core.handle(bad) == [.changeRAM(.replace([]))])
    #expect(core.handle(.ramChanged(error)) == [.reply(.number(.setMemoryTable, 1))])
    #expect(core.handle(bad) == [.changeRAM(.replace([]))])
    #expect(
      core.handle(.ramChanged(nil))
        == [.tell(.ramChanged), .reply(.number(.setMemoryTable, 0))])
  }
}
