import Addressing
public import DMAContainer
import IOVAMapping
import Locking
public import PageBitmap

/// How an IOAS is made and what it maps.
public struct IOMMUFDOptions: Sendable {
  /// Page table entries of 2 MiB and 1 GiB. Off, every entry is a page, and the dirty bits are as
  /// fine, at the cost of IOTLB misses; the kernel splits nothing when tracking starts, so this is
  /// decided before the first map (IOMMU_OPTION_HUGE_PAGES).
  public var usesHugePages: Bool
  /// Guest memory given as files; what lies in none is mapped by the address this process has.
  public var memoryFiles: [GuestMemoryFile]

  public init(usesHugePages: Bool = false, memoryFiles: [GuestMemoryFile] = []) {
    self.usesHugePages = usesHugePages
    self.memoryFiles = memoryFiles
  }
}

/// An I/O address space (IOAS) of the kernel's iommufd with its devices.
///
/// Terms:
/// - **IOAS**: what is mapped where; the container.
/// - **HWPT**: a page table of an IOMMU that shows the IOAS to some devices. There is one for each
///   kind of IOMMU hardware, with dirty bits of its own, so one log each, see ``HWPTDirtyLog``.
/// - **Untracked device**: behind an IOMMU without dirty bits, or emulated (a mediated device,
///   whose DMA no IOMMU translates). Its log is of the scope `everythingMapped`, and says why.
///
/// Invariants:
/// 1. Every attached device has a log in ``dirtyLogs``.
/// 2. A device is attached to a tracking HWPT where its IOMMU has one; where it has not, ``notes``
///    says so.
/// 3. An unmap that cuts a mapping is refused before the kernel is asked: asked, it would remove
///    the mappings before the one that is cut, and say ENOENT, as if nothing had been there.
/// 4. Every id and descriptor made here goes away with the container, also where a step fails.
///
/// States of a device:
///
///      opened ──bind──> bound ──attach──> attached to a tracking HWPT, or to the IOAS
///        ^                │                   │
///        └─────close──────┴──────detach───────┘
public final class IOMMUFDContainer: DMAContainer {
  struct State: ~Copyable {
    /// What was mapped through this object and not unmapped.
    var table = MappingTable(policy: .refuse, retiredCountMax: 0)
    /// An unmap has failed half way, so the table may hold what is gone.
    var hasPartialUnmap = false
    /// The kernel is older than 6.13.
    var lacksMapFile = false
    var capabilities = ContainerCapabilities()
    var hwpts: [HWPT] = []
    var devices: [IOMMUFDDevice] = []
    var notes: [String] = []
    /// Every entry of its page tables is one page.
    var hasSmallEntries = false
  }

  /// A tracking HWPT that was allocated here.
  struct HWPT {
    let log: HWPTDirtyLog
    /// Made by an attach, and gone with its last device.
    let isAutomatic: Bool
  }

  public let name: String
  public let descriptor: IOMMUFDDescriptor
  /// Of the IOAS in its iommufd.
  public let ioas: UInt32
  private let ownsIOAS: Bool
  let memoryFiles: [GuestMemoryFile]
  let state = Mutex(State())

  /// Opens an iommufd and makes an IOAS.
  public convenience init(
    name: String = "iommufd", path: String = "/dev/iommu", options: IOMMUFDOptions = .init(),
    calls: any IOMMUFDCalls = LinuxIOMMUFDCalls()
  ) throws(IOMMUFDError) {
    try self.init(name: name, descriptor: .open(path, calls: calls), options: options)
  }

  /// An iommufd that a VMM hands over.
  /// - Parameter ioas: the VMM's IOAS, which stays its own, with the page sizes it has; nil makes
  ///   one. What the VMM maps in it by itself is not this object's to unmap.
  public init(
    name: String = "iommufd", descriptor: IOMMUFDDescriptor, ioas: UInt32? = nil,
    options: IOMMUFDOptions = .init()
  ) throws(IOMMUFDError) {
    self.name = name
    self.descriptor = descriptor
    self.memoryFiles = options.memoryFiles
    self.ownsIOAS = ioas == nil
    if let ioas { self.ioas = ioas } else { self.ioas = try descriptor.allocateIOAS(for: name) }
    // From here on deinit clears up after what fails.
    var notes: [String] = []
    if ownsIOAS, !options.usesHugePages {
      notes = Self.disableHugePages(descriptor, self.ioas, name)
    }
    let capabilities = try Self.capabilities(descriptor, self.ioas, name)
    // Where pages of the IOAS are larger, windows of 4 KiB pages could cut one.
    let hasSmallEntries =
      ownsIOAS && !options.usesHugePages && notes.isEmpty
      && capabilities.pageSizes.smallest == .fourKiB
    state.withLock { state in
      state.capabilities = capabilities
      state.notes = notes
      state.hasSmallEntries = hasSmallEntries
    }
  }

  deinit {
    let (devices, hwpts) = state.withLock { state in
      defer { state.devices = [] }
      return (state.devices, state.hwpts)
    }
    for device in devices { try? device.descriptor?.detach(for: device.name) }
    for hwpt in hwpts { descriptor.destroy(hwpt.log.id) }
    if ownsIOAS { descriptor.destroy(ioas) }
  }

  private static func disableHugePages(
    _ descriptor: IOMMUFDDescriptor, _ ioas: UInt32, _ name: String
  ) -> [String] {
    do throws(IOMMUFDError) {
      try descriptor.setHugePages(false, ioas: ioas, for: name)
      return []
    } catch {
      return ["\(error); dirt is reported by page table entries, which may be of 2 MiB or 1 GiB"]
    }
  }

  static func capabilities(
    _ descriptor: IOMMUFDDescriptor, _ ioas: UInt32, _ name: String
  ) throws(IOMMUFDError) -> ContainerCapabilities {
    let (ranges, alignment) = try descriptor.iovaRanges(of: ioas, for: name)
    let smallest = max(alignment, PageSize.fourKiB.bytes)
    guard smallest.nonzeroBitCount == 1 else {
      throw IOMMUFDError(
        object: name, operation: IOMMUFDRequest.iovaRanges.name, errno: 0,
        detail: "the alignment \(alignment) is no power of two")
    }
    return ContainerCapabilities(
      pageSizes: PageSizeSet(mask: ~(smallest &- 1)), bisectPolicy: .refuse, mappingCountMax: nil,
      validRanges: ranges == [.wholeSpace] ? [] : ranges, hasAtomicUnmap: false)
  }

  // MARK: DMAContainer

  public var capabilities: ContainerCapabilities { state.withLock { $0.capabilities } }

  /// One for each tracking HWPT with a device, and one for each other device.
  public var dirtyLogs: [any DirtyLog] {
    state.withLock { state in
      var logs: [any DirtyLog] = []
      for device in state.devices where !logs.contains(where: { $0 === device.log }) {
        logs.append(device.log)
      }
      return logs
    }
  }

  public func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    preconditionFailure("iommufd has no unmap with dirty bitmap")
  }

  // MARK: questions

  public var devices: [IOMMUFDDevice] { state.withLock { $0.devices } }

  /// What is less exact than it could be, and why: a sentence each.
  var hasSmallEntries: Bool { state.withLock { $0.hasSmallEntries } }
  public var notes: [String] { state.withLock { $0.notes } }
}
