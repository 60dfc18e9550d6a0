import Addressing
import GuestDirtyLog
import PageBitmap

extension MigrationDestination {
  func greet(_ link: Link) throws(MigrationError.Cause) {
    let header = try section { (reader) throws(StreamError) -> StreamSection in
      try reader.begin()
      return try reader.nextSection()
    }
    guard header.kind == .hello else {
      throw refuse(.unexpected(header.kind, "a stream begins with hello"))
    }
    try section { (reader) throws(StreamError) in
      try reader.readPayload(of: header, into: &self.payload)
    }
    guard let hello = StreamHello(payload) else {
      throw refuse(.malformed(.hello, "it does not say what a hello must"))
    }
    wantsAnswers = hello.wantsAnswers
    report.token = hello.token
    let misfits = misfits(of: hello)
    guard misfits.isEmpty else { throw .refused(PeerText.list(misfits)) }
    incoming = hello.devices.compactMap { wanted in
      localDevices.first { $0.name == wanted.name }.map { Incoming(device: $0) }
    }
    try expectNothingYet()
    isLoading = true
    let began = clock()
    for entry in incoming {
      try onDevice { () throws(DeviceError) in try entry.device.beginResuming() }
      observe(entry.device)
    }
    walkNanoseconds = clock() &- began
    if wantsAnswers, let answers = link.answers {
      do throws(ChannelError) {
        try answers.begin()
      } catch {
        throw .channel(error)
      }
    }
    try tell(.accepted, argument: StreamFormat.acceptsPings)
    stage = .rounds
    observer?.migration(.status(.active))
  }

  /// No page has come.
  private func expectNothingYet() throws(MigrationError.Cause) {
    do throws(PageBitmapError) {
      arrival = try PageArrival(regions)
    } catch {
      throw .refused("there is no memory here to count the pages that come: \(error)")
    }
  }

  /// Everything that keeps the source's guest from running here, a clause each.
  private func misfits(of hello: StreamHello) -> [String] {
    var found: [String] = []
    if hello.pageByteCount != UInt32(StreamFormat.pageByteCount) {
      found.append("pages of \(hello.pageByteCount) bytes are not known here")
    }
    let unknown = hello.features & ~StreamFormat.featureAnswers
    if unknown != 0 {
      found.append("stream features 0x\(String(unknown, radix: 16)) are not known here")
    }
    if hello.wantsAnswers, link?.answers == nil {
      found.append("the source waits for answers, and this channel carries none")
    }
    let here = Set(regions.map { StreamHello.Region(name: $0.name, gpa: $0.gpa) })
    let there = Set(hello.regions)
    if there.count != hello.regions.count { found.append("a RAM region is there twice") }
    for region in hello.regions where !here.contains(region) {
      found.append("there is no RAM \(PeerText.name(region.name)) at GPA \(region.gpa) here")
    }
    for region in regions
    where !there.contains(StreamHello.Region(name: region.name, gpa: region.gpa)) {
      found.append("the source has no \(region)")
    }
    let names = Set(hello.devices.map(\.name))
    if names.count != hello.devices.count { found.append("a device is there twice") }
    for wanted in hello.devices {
      guard let device = localDevices.first(where: { $0.name == wanted.name }) else {
        found.append("there is no device \(PeerText.name(wanted.name)) here")
        continue
      }
      if !Self.fits(wanted.interface, device.interface) {
        found.append(
          "device \(wanted.name) is \(wanted.interface) there and \(device.interface) here")
      }
    }
    for device in localDevices where !names.contains(device.name) {
      found.append("the source has no device \(device.name)")
    }
    return found
  }

  /// The state of one is the state of the other: features say how it is read, not what it is.
  private static func fits(_ there: MigrationInterface, _ here: MigrationInterface) -> Bool {
    switch (there, here) {
    case (.v1, .v1), (.v2, .v2): true
    default: false
    }
  }
}
