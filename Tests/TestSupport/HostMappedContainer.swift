public import Addressing
public import DMAContainer
public import PageBitmap

/// Says where this process sees guest memory, for a container that has to know: whatever is mapped
/// without an HVA gets that of its GPA. For suites, which know GPAs alone, over a real kernel.
public final class HostMappedContainer: DMAContainer {
  private let base: any DMAContainer
  private let gpaFirst: GPA
  private let hvaFirst: HVA

  /// - Parameter hvaFirst: where `gpaFirst` is seen; the rest follows contiguously.
  public init(_ base: any DMAContainer, gpaFirst: GPA, hvaFirst: HVA) {
    self.base = base
    self.gpaFirst = gpaFirst
    self.hvaFirst = hvaFirst
  }

  public var name: String { base.name }
  public var capabilities: ContainerCapabilities { base.capabilities }
  public var dirtyLogs: [any DirtyLog] { base.dirtyLogs }

  public func map(_ request: MapRequest) throws(ContainerError) {
    let hva = request.gpaFirst.offset(from: gpaFirst).flatMap { hvaFirst.advanced(byBytes: $0) }
    try base.map(
      MapRequest(
        iova: request.iova, gpaFirst: request.gpaFirst, hvaFirst: request.hvaFirst ?? hva,
        permissions: request.permissions))
  }

  @discardableResult
  public func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 { try base.unmap(range) }

  @discardableResult
  public func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    try base.unmap(reportingInto: &dirty)
  }
}
