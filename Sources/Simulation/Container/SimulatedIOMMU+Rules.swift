import Addressing
import DMAContainer
import IOVAMapping

/// Checks of a map request that both kinds of container make.
extension SimulatedIOMMU {
  func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ errno: Int32, _ detail: String
  ) -> ContainerError {
    ContainerError(operation, object: name, range: range, errno: errno, detail: detail)
  }

  func checkAlignment(of request: MapRequest) throws(ContainerError) {
    let hvaIsAligned = request.hvaFirst?.isAligned(to: pageSize) ?? true
    guard request.iova.isAligned(to: pageSize), request.gpaFirst.isAligned(to: pageSize),
      hvaIsAligned
    else {
      throw refused(
        .map, request.iova, ContainerErrno.einval, "not whole pages of \(pageSize) on both sides")
    }
    guard !request.permissions.isEmpty else {
      throw refused(.map, request.iova, ContainerErrno.einval, "it grants neither read nor write")
    }
    if let hva = request.hvaFirst, hva.advanced(byBytes: request.iova.lastOffset) == nil {
      throw refused(.map, request.iova, ContainerErrno.eoverflow, "the HVA range wraps")
    }
    guard request.gpaFirst.advanced(byBytes: request.iova.lastOffset) != nil else {
      throw refused(.map, request.iova, ContainerErrno.eoverflow, "the GPA range wraps")
    }
  }

  func checkValid(_ range: IOVARange, _ validRanges: [IOVARange]) throws(ContainerError) {
    guard validRanges.isEmpty || validRanges.contains(where: { $0.contains(range) }) else {
      throw refused(.map, range, ContainerErrno.einval, "it is not inside a valid IOVA range")
    }
  }

  /// Adds a mapping that was checked.
  func add(_ request: MapRequest, to state: inout State) throws(ContainerError) {
    do {
      try state.table.map(request.iova, to: request.gpaFirst, permissions: request.permissions)
    } catch {
      throw refused(.map, request.iova, ContainerErrno.enomem, "\(error)")
    }
  }
}
