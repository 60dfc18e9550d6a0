import Addressing
import DMAContainer
import PageBitmap

/// A container that breaks one promise: a planted fault for the conformance suite.
final class ContainerImpostor: DMAContainer {
  enum Lie: CaseIterable {
    case forgetsDirtAtUnmap
    case reportsNothing
    case reportsTooMuch
    case clearsTheBitmap
    case clearsOnPeek
    case acceptsOverlap
    case acceptsCut
    case unmapsNothing
    case miscountsBytes
    case hidesItsLogs
    case wrongErrno
    case startsDirty
  }

  let honest: any DMAContainer
  let lie: Lie

  init(_ honest: any DMAContainer, _ lie: Lie) {
    self.honest = honest
    self.lie = lie
  }

  var name: String { honest.name }
  var capabilities: ContainerCapabilities { honest.capabilities }
  var dirtyLogs: [any DirtyLog] {
    lie == .hidesItsLogs ? [] : honest.dirtyLogs.map { ImpostorLog($0, lie) }
  }

  func map(_ request: MapRequest) throws(ContainerError) {
    do { try honest.map(request) } catch {
      if lie == .acceptsOverlap { return }
      if lie == .wrongErrno {
        throw ContainerError(.map, object: name, range: request.iova, errno: ContainerErrno.eio)
      }
      throw error
    }
  }

  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    if lie == .unmapsNothing { return range.byteCount ?? 0 }
    do {
      let bytes = try honest.unmap(range)
      return lie == .miscountsBytes ? bytes + 4096 : bytes
    } catch {
      if lie == .acceptsCut { return 0 }
      throw error
    }
  }

  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    if lie == .unmapsNothing { return dirty.window?.byteCount ?? 0 }
    if lie == .forgetsDirtAtUnmap, let window = dirty.window { return try honest.unmap(window) }
    let bytes = try honest.unmap(reportingInto: &dirty)
    if lie == .reportsNothing, let window = dirty.window {
      try? dirty.reset(window: window, pageSize: .fourKiB)
    }
    return lie == .miscountsBytes ? bytes + 4096 : bytes
  }
}

/// The log of an impostor.
final class ImpostorLog: DirtyLog {
  let honest: any DirtyLog
  let lie: ContainerImpostor.Lie

  init(_ honest: any DirtyLog, _ lie: ContainerImpostor.Lie) {
    self.honest = honest
    self.lie = lie
  }

  var name: String { honest.name }
  var capabilities: DirtyLogCapabilities { honest.capabilities }

  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    try honest.start(logging: ranges, pageSize: pageSize)
  }

  func stop() throws(ContainerError) {
    if lie != .startsDirty { try honest.stop() }
  }

  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    guard let window = bitmap.window else { return }
    if lie == .clearsTheBitmap { try? bitmap.reset(window: window, pageSize: .fourKiB) }
    try honest.query(&bitmap, clear: clear || lie == .clearsOnPeek)
    switch lie {
    case .reportsNothing: try? bitmap.reset(window: window, pageSize: .fourKiB)
    case .reportsTooMuch: bitmap.markAll()
    case .forgetsDirtAtUnmap where !clear: try? bitmap.reset(window: window, pageSize: .fourKiB)
    default: break
    }
  }
}
