import Addressing
public import DMAContainer
import IOVAMapping
import Locking

/// A container of VFIO with the type1 IOMMU (v2): the only way to devices on kernels without
/// iommufd.
///
/// Terms:
/// - **Group**: the devices the IOMMU can not tell apart; attached and detached as one.
/// - **Pinned scope**: nothing but mediated devices is attached, so that the kernel knows which
///   pages a device can reach. One plain device, and it reports whatever is mapped, in every read.
///
/// Invariants:
/// 1. An error whose `isPartial` is false left the kernel's mappings as they were.
/// 2. A query and an unmap set bits of the caller's bitmap and clear none, though the kernel
///    overwrites whole words.
/// 3. The scope is ``DirtyScope/pinned`` only while nobody contradicts: neither the caller about
///    one of the devices, nor the kernel by naming IOVA that the IOMMU translates.
/// 4. No range that ends at 2^64-1 is given to a kernel whose arithmetic wraps there.
///
/// States: a container without a group has no IOMMU and answers EINVAL to everything. The dirty log
/// is off or on, see ``Type1Log``.
public final class Type1Container: DMAContainer {
  struct State {
    var information: Type1Information
    var allowance: MappingAllowance
    var devices: [Type1Device] = []
    var groups: [String: VFIODescriptor] = [:]
    var warnings: [String] = []
  }

  public let name: String
  let descriptor: VFIODescriptor
  let state: Mutex<State>
  let top: TopOfSpace
  private let ownLog: Type1Log
  /// VFIO_DMA_UNMAP_FLAG_ALL (Linux 5.12).
  let hasUnmapAll: Bool

  /// Warnings kept until they are taken; past that they are left out.
  static let warningCountMax = 64

  /// A container with its IOMMU set, opened here or handed over by a VMM.
  /// - Parameter devices: what is attached; empty when it is not known, which counts as a plain
  ///   device unless the kernel's answers say mediated ones.
  public init(
    name: String, adopting descriptor: VFIODescriptor, devices: [Type1Device] = []
  ) throws(VFIOError) {
    let information = try Type1Information.ask(descriptor, container: name)
    self.name = name
    self.descriptor = descriptor
    self.hasUnmapAll =
      descriptor.control(.checkExtension, value: Self.unmapAllExtension) > 0
    self.top = TopOfSpace(descriptor)
    self.ownLog = Type1Log(name: name, descriptor: descriptor, top: top)
    self.state = Mutex(
      State(
        information: information,
        allowance: MappingAllowance(available: information.mappingsAvailable), devices: devices))
    settle()
  }

  // MARK: what is attached

  /// The devices attached changed, behind a descriptor somebody else holds: asks the kernel anew
  /// what the container allows. Call it before the tracker's attachmentChanged.
  public func attachmentChanged(to devices: [Type1Device]) throws(VFIOError) {
    let information = try Type1Information.ask(descriptor, container: name)
    state.withLock { state in
      state.devices = devices
      state.information = information
      if let available = information.mappingsAvailable {
        _ = state.allowance.isNow(available)
      }
    }
    settle()
  }

  public var devices: [Type1Device] { state.withLock { $0.devices } }

  /// Tells the log what the container has become.
  private func settle() {
    let (information, scope) = state.withLock { ($0.information, Self.scope($0)) }
    if information.migration == nil {
      warn(
        "container \(name) has no dirty tracking (VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION is absent): "
          + "everything mapped writable counts as written")
    }
    ownLog.become(information.migration, scope: scope)
  }

  private static func scope(_ state: State) -> DirtyScope {
    guard state.information.migration != nil else { return .everythingMapped }
    // IOVA the IOMMU translates: at least one device is behind it.
    guard state.information.validRanges == nil else { return .everythingMapped }
    return state.devices.contains { $0.isMediated == false } ? .everythingMapped : .pinned
  }

  // MARK: DMAContainer

  public var capabilities: ContainerCapabilities {
    state.withLock { state in
      let migration = state.information.migration
      return ContainerCapabilities(
        pageSizes: state.information.pageSizes, bisectPolicy: .refuse,
        mappingCountMax: state.allowance.limit,
        validRanges: state.information.validRanges ?? [],
        hasAtomicUnmap: migration != nil && Self.usesOwnLog(state),
        unmapBitmapByteCountMax: migration?.bitmapByteCountMax ?? Limits.queryBitmapByteCountMax)
    }
  }

  /// False when every device logs by itself.
  private static func usesOwnLog(_ state: State) -> Bool {
    state.devices.isEmpty || state.devices.contains { $0.log == nil }
  }

  public var dirtyLogs: [any DirtyLog] {
    state.withLock { state in
      let own: [any DirtyLog] = Self.usesOwnLog(state) ? [ownLog] : []
      return own + state.devices.compactMap(\.log)
    }
  }

  /// The smallest page of the IOMMU.
  var alignment: PageSize { state.withLock { $0.information.pageSizes.smallest ?? .fourKiB } }

  // MARK: warnings

  /// Sentences about what will soon go wrong, or is worse than it might be; each is given once.
  public func takeWarnings() -> [String] {
    state.withLock { state in
      let taken = state.warnings
      state.warnings = []
      return taken
    }
  }

  func warn(_ sentence: String) {
    state.withLock { state in
      guard state.warnings.count < Self.warningCountMax, !state.warnings.contains(sentence) else {
        return
      }
      state.warnings.append(sentence)
    }
  }

  func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ errno: Int32, _ detail: String,
    isPartial: Bool = false
  ) -> ContainerError {
    ContainerError(
      operation, object: name, range: range, errno: errno, detail: detail, isPartial: isPartial)
  }
}
