import Addressing
import DMAContainer
public import GuestDirtyLog

/// One of the three containers of a sample machine, with the guest's driver for it.
public final class SampleContainer: Sendable {
  /// How a container knows what its devices wrote.
  public enum Kind: String, CaseIterable, Hashable, Sendable {
    /// iommufd: dirty bits of the IOMMU's page tables.
    case hardware
    /// type1: mediated devices, known by the pages they pin.
    case pinned
    /// type1: a device that logs its own DMA, in ranges fixed when it starts.
    case deviceLog = "device-log"

    /// Where the guest's driver takes its IOVAs from: each turn of a recording a window higher.
    /// A device log started in one window has to be started anew in the next.
    var windowCount: UInt64 { self == .deviceLog ? 16 : 1 }
  }

  public let kind: Kind
  public let id: ContainerID
  public let driver: GuestDriver
  let backend: any DMAContainer
  let thread: StepThread

  init(
    kind: Kind, id: ContainerID, backend: any DMAContainer, listener: any IOMMUListener,
    options: SampleOptions, layout: GuestLayout
  ) {
    self.kind = kind
    self.id = id
    self.backend = backend
    driver = GuestDriver(
      stream: Self.stream(kind, options, layout), layout: layout, listener: listener)
    let driver = driver
    thread = StepThread(
      name: "iommu-\(kind.rawValue)", stepsPerSecond: options.iommuEventsPerSecond
    ) { driver.step() }
  }

  private static func stream(
    _ kind: Kind, _ options: SampleOptions, _ layout: GuestLayout
  ) -> IOMMUStream {
    guard let recording = options.recordings[kind], !recording.isEmpty else {
      // No switch to pass-through: a driver's rings are to stay mapped.
      let behaviour: IOMMUBehaviour =
        switch kind {
        case .hardware: .alias
        case .pinned: .lazy
        case .deviceLog: .storm
        }
      let salt = UInt64(kind.rawValue.utf8.count)
      return IOMMUStream(behaviour: behaviour, seed: options.seed ^ salt, layout: layout)
    }
    let windows = (0..<kind.windowCount).lazy.flatMap { window in
      recording.lazy.compactMap { moved($0, byBytes: window << 32) }
    }
    return IOMMUStream(RecordedTraffic(windows, layout: layout))
  }
}
