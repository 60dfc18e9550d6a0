import Addressing
import DMAContainer
import PageBitmap
import VFIOUser

/// A server's container that can be let go when the connection is: the server, and with it all it
/// had mapped, is gone then, as far as can be known, and what it had mapped counts as written.
///
/// A server that did not answer in time may be there still: its unmaps stay errors.
final class RelayContainer: DMAContainer {
  let inside: VFIOUserContainer
  private let client: VFIOUserClient

  init(_ inside: VFIOUserContainer, _ client: VFIOUserClient) {
    self.inside = inside
    self.client = client
  }

  var name: String { inside.name }
  var capabilities: ContainerCapabilities { inside.capabilities }
  var dirtyLogs: [any DirtyLog] { inside.dirtyLogs }

  private var isGone: Bool { client.end?.reason == .connectionLost }

  func map(_ request: MapRequest) throws(ContainerError) { try inside.map(request) }

  @discardableResult
  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    if isGone { return 0 }
    do throws(ContainerError) { return try inside.unmap(range) } catch {
      guard isGone else { throw error }
      return 0
    }
  }

  @discardableResult
  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    if !isGone {
      do throws(ContainerError) { return try inside.unmap(reportingInto: &dirty) } catch {
        guard isGone else { throw error }
      }
    }
    dirty.markAll()
    return 0
  }
}
