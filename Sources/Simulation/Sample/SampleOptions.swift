public import DirtyTracker
public import EventTrace

/// What a sample machine is made of. Source and destination are made from equal options, apart from
/// the omissions.
public struct SampleOptions: Sendable {
  /// Bytes of RAM; whole pages, of which 16 MiB at least.
  public var memoryByteCount: UInt64 = 1 << 30
  public var vcpuCount = 2
  public var deviceCount = 4
  public var seed: UInt64 = 1
  /// The guest's IOMMU traffic, one recording for each kind of container; empty: generated.
  public var recordings: [SampleContainer.Kind: [FtraceEvent.Kind]] = [:]
  /// Pages each vCPU writes in a second.
  public var vcpuPagesPerSecond: UInt64 = 20_000
  /// IOMMU events of the guest in a second, for each container.
  public var iommuEventsPerSecond: UInt64 = 8_000
  /// DMA writes of each device in a second.
  public var deviceWritesPerSecond: UInt64 = 4_000
  /// Pages of 4 KiB of each device's own memory, at most.
  public var devicePageCountMax = 256
  /// Steps of the tracker left out, so that the verdict can be seen to fail.
  public var omitting: Set<TrackerOmission> = []

  /// What the tracker takes and is answered is appended to it.
  public var record: EventRecord?
  /// Calls of containers and logs that fail; calls of devices, and of their configuration.
  public var containerFaults: FaultPlan?
  public var deviceFaults = DeviceFaults()
  /// vCPUs that were stopped cannot be resumed, as a hypervisor may say: the guest stands still.
  public var vcpusStayStopped = false
  /// vCPUs mark what they write, also where the kernel could watch them.
  public var marksVCPUWrites = false

  public init() {}

  public static let memoryByteCountMin: UInt64 = 16 << 20
  public static let memoryByteCountMax: UInt64 = 1 << 40
  public static let deviceCountMax = 32
  public static let vcpuCountMax = 64
}
