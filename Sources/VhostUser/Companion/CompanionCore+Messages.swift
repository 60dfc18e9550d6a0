extension CompanionCore {
  mutating func receive(_ message: FrontEndMessage, _ needsReply: Bool) -> [CompanionEffect] {
    guard var connection = connection else { preconditionFailure("a message of nobody") }
    let request = message.request
    if let needed = request.neededFeature, !connection.protocolFeatures.contains(needed) {
      return [.close(.notNegotiated(request))]
    }
    var effects: [CompanionEffect] = []
    switch message {
    case .getFeatures: return [.reply(.number(request, VirtioFeatures.offered.rawValue))]
    case .getProtocolFeatures:
      return [.reply(.number(request, ProtocolFeatures.offered.rawValue))]
    case .getQueueCount:
      return [.reply(.number(request, UInt64(CompanionLimits.ringCountMax)))]
    case .getMemorySlotCount:
      return [.reply(.number(request, UInt64(CompanionLimits.memorySlotCountMax)))]
    case .getConfiguration(let access):
      // Capacity 0, and no other field means anything without its feature.
      let zeroes = [UInt8](repeating: 0, count: access.bytes.count)
      return [
        .reply(
          .configuration(
            ConfigurationAccess(offset: access.offset, flags: access.flags, bytes: zeroes)))
      ]
    case .setMemoryTable(let regions):
      return wait(.ram(request, needsReply: needsReply), .changeRAM(.replace(regions)))
    case .addMemoryRegion(let region):
      return wait(.ram(request, needsReply: needsReply), .changeRAM(.add(region)))
    case .removeMemoryRegion(let region):
      return wait(.ram(request, needsReply: needsReply), .changeRAM(.remove(region)))
    case .setLogBase(let description):
      return wait(.log(needsReply: needsReply), .openLog(description))
    case .getRingBase(let number): return askStop(.ringStop(ring: number.ring))
    case .resetOwner, .resetDevice:
      return askStop(.reset(request, needsReply: needsReply))
    case .setFeatures(let features): effects = connection.setFeatures(features)
    case .setProtocolFeatures(let features): connection.protocolFeatures = features
    case .setRingBase(let number):
      connection.rings[number.ring, default: Ring()].base = number.value
    case .setRingKick(let ring):
      connection.rings[UInt32(ring.ring), default: Ring()].isStarted = true
      // Without that feature a ring is enabled as soon as it is started.
      if !connection.features.contains(.protocolFeatures) { effects = endQuiet() }
    case .setRingEnable(let number):
      if number.value == 1 {
        connection.rings[number.ring, default: Ring()].isStarted = true
        effects = endQuiet()
      }
    case .setOwner, .setLogDescriptor, .setRingSize, .setRingAddress, .setRingCall, .setRingError,
      .setConfiguration:
      break
    }
    effects += connection.acknowledgement(request, needsReply)
    self.connection = connection
    return effects
  }

  private mutating func wait(_ pending: Pending, _ effect: CompanionEffect) -> [CompanionEffect] {
    connection?.pending = pending
    return [effect]
  }

  private mutating func askStop(_ pending: Pending) -> [CompanionEffect] {
    if connection?.hasNoLogToStopWith == true { return [.close(.unloggedStop)] }
    return wait(pending, .askStop)
  }

  mutating func finishRAM(_ error: VhostUserError?) -> [CompanionEffect] {
    guard case .ram(let request, let needsReply) = connection?.pending else {
      preconditionFailure("nobody changed RAM")
    }
    connection?.pending = nil
    guard let error else {
      return [.tell(.ramChanged)] + (connection?.acknowledgement(request, needsReply) ?? [])
    }
    let canSay = needsReply && connection?.acknowledges == true
    return canSay ? [.reply(.number(request, 1))] : [.close(error)]
  }

  mutating func finishLog(_ error: VhostUserError?) -> [CompanionEffect] {
    guard case .log(let needsReply) = connection?.pending else {
      preconditionFailure("nobody opened a log")
    }
    connection?.pending = nil
    return connection?.useLog(error, needsReply) ?? []
  }
}

extension CompanionCore.Connection {
  /// REPLY_ACK was negotiated: messages that have no answer of their own get one when they ask.
  var acknowledges: Bool { protocolFeatures.contains(.replyAcknowledgement) }

  func acknowledgement(_ request: FrontEndRequest, _ needsReply: Bool) -> [CompanionEffect] {
    needsReply && acknowledges ? [.reply(.number(request, 0))] : []
  }

  /// The front-end logs a started device, and what was written since is in no log.
  var hasNoLogToStopWith: Bool {
    guard wantsLog else { return false }
    switch log {
    case .open: return false
    case .unusable: return true
    // After the stop of the last ring there is none, and need not be.
    case .none: return isStarted
    }
  }

  mutating func setFeatures(_ new: VirtioFeatures) -> [CompanionEffect] {
    let didWantLog = wantsLog
    features = new
    if wantsLog {
      if !didWantLog { isLate = !isStarted || log != .open }
      return settle()
    }
    guard didWantLog else { return [] }
    var effects: [CompanionEffect] = []
    if isTracking { effects.append(.tell(.trackingEnds)) }
    isTracking = false
    return effects + closeLog()
  }

  mutating func useLog(_ error: VhostUserError?, _ needsReply: Bool) -> [CompanionEffect] {
    var effects: [CompanionEffect] = []
    if let error {
      log = .unusable(error)
    } else {
      log = .open
      effects = isTracking ? [.tell(.logReplaced)] : settle()
    }
    // With a descriptor it always has an answer, whose number the front-end does not look at.
    if protocolFeatures.contains(.logDescriptor) {
      return effects + [.reply(.number(.setLogBase, 0))]
    }
    return effects + acknowledgement(.setLogBase, needsReply)
  }

  /// Tracking starts once the front-end wants it and there is a log.
  private mutating func settle() -> [CompanionEffect] {
    guard wantsLog, log == .open, !isTracking else { return [] }
    isTracking = true
    return [.tell(.trackingStarts(isLate: isLate))]
  }

  mutating func closeLog() -> [CompanionEffect] {
    defer { log = .none }
    return log == .open ? [.closeLog] : []
  }
}
