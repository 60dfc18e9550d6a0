/// The device's commands, one each.
extension VFIOUserClient {
  public func deviceInformation() throws(VFIOUserError) -> DeviceInformation {
    guard case .deviceInformation(let information) = try request(.deviceInformation).reply else {
      preconditionFailure("an answer has the form of its request")
    }
    return information
  }

  /// - Returns: the region, and the descriptor it may be mapped by.
  public func regionInformation(
    _ index: UInt32
  ) throws(VFIOUserError) -> (RegionInformation, OwnedDescriptor?) {
    var argsz: UInt32 = 32
    // A second time with the room the answer says it needs.
    for _ in 0..<2 {
      let (reply, descriptors) = try request(.regionInformation(index: index, argsz: argsz))
      guard case .regionInformation(let information, let needed) = reply else {
        preconditionFailure("an answer has the form of its request")
      }
      guard let needed else { return (information, descriptors.first) }
      guard needed <= dataByteCountMax else {
        throw VFIOUserError(
          .malformed, object: name, operation: "DEVICE_GET_REGION_INFO",
          detail: "region \(index) needs \(needed) bytes, of \(dataByteCountMax)")
      }
      argsz = UInt32(needed)
    }
    throw VFIOUserError(
      .malformed, object: name, operation: "DEVICE_GET_REGION_INFO",
      detail: "region \(index) needs ever more room")
  }

  public func irqInformation(_ index: UInt32) throws(VFIOUserError) -> IRQInformation {
    guard case .irqInformation(let information) = try request(.irqInformation(index: index)).reply
    else { preconditionFailure("an answer has the form of its request") }
    return information
  }

  /// Descriptors beyond what the server takes in one message go in several.
  public func setIRQs(
    _ message: SetIRQsMessage, descriptors: [OwnedDescriptor] = []
  ) throws(VFIOUserError) {
    let room = main.limitsOfPeer.descriptorCountMax
    guard descriptors.count > room, room > 0 else {
      _ = try request(.setIRQs(message), descriptors: descriptors)
      return
    }
    precondition(descriptors.count == Int(message.count), "a descriptor for each interrupt")
    for first in stride(from: 0, to: descriptors.count, by: room) {
      let part = Array(descriptors[first..<min(first + room, descriptors.count)])
      var piece = message
      piece.start = message.start + UInt32(first)
      piece.count = UInt32(part.count)
      _ = try request(.setIRQs(piece), descriptors: part)
    }
  }

  /// - Returns: as many bytes as the server gave.
  public func readRegion(_ access: RegionAccess) throws(VFIOUserError) -> [UInt8] {
    try check(access.byteCount, "REGION_READ")
    guard case .regionRead(let data) = try request(.regionRead(access)).reply else {
      preconditionFailure("an answer has the form of its request")
    }
    return data
  }

  public func writeRegion(
    _ region: UInt32, offset: UInt64, _ data: [UInt8], awaitsReply: Bool = true
  ) throws(VFIOUserError) {
    try check(data.count, "REGION_WRITE")
    let access = RegionAccess(region: region, offset: offset, byteCount: data.count)
    if awaitsReply {
      _ = try request(.regionWrite(access, data))
    } else {
      try post(.regionWrite(access, data))
    }
  }

  public func reset() throws(VFIOUserError) { _ = try request(.reset) }

  // MARK: features

  /// Whether the server has a feature for that use.
  public func hasFeature(_ feature: VFIOUserFeature, get: Bool = false, set: Bool = false)
    throws(VFIOUserError) -> Bool
  {
    do throws(VFIOUserError) {
      _ = try request(.feature(FeatureMessage(feature, .probe(get: get, set: set))))
      return true
    } catch {
      guard error.reason == .refused else { throw error }
      return false
    }
  }

  /// GET or SET of a feature.
  /// - Returns: the answer's data.
  func feature(_ message: FeatureMessage) throws(VFIOUserError) -> [UInt8] {
    guard case .feature(let answer) = try request(.feature(message)).reply else {
      preconditionFailure("an answer has the form of its request")
    }
    return answer.data
  }

  func check(_ byteCount: Int, _ operation: String) throws(VFIOUserError) {
    guard byteCount <= dataByteCountMax else {
      throw VFIOUserError(
        .limit, object: name, operation: operation,
        detail: "\(byteCount) bytes, of \(dataByteCountMax) both sides take")
    }
  }
}
