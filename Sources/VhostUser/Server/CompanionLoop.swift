import Locking

/// What the companion's thread does: waits, reads messages, has the core judge them, and carries
/// out what it says. Belongs to that thread alone.
final class CompanionLoop {
  /// Milliseconds until the next attempt to accept after the system had no descriptor left.
  private static let acceptPause: Int32 = 100
  /// Messages in a row before the loop looks whether it is to end.
  private static let messageCountInARow = 64

  private let shared: CompanionShared
  private let delegate: any CompanionDelegate
  private let listener: OwnedDescriptor
  private var connection: OwnedDescriptor?
  private var reader = MessageReader()
  /// What the socket had no room for yet. No message is read before it is gone.
  private var outgoing: ArraySlice<UInt8> = []
  private var cannotAccept = false

  init(
    shared: CompanionShared, delegate: any CompanionDelegate, listener: OwnedDescriptor
  ) {
    self.shared = shared
    self.delegate = delegate
    self.listener = listener
  }

  func run() {
    while !shared.shouldEnd {
      let ready = SocketCalls.wait(
        wake: shared.wakeDescriptor, listener: cannotAccept ? -1 : listener.number,
        connection: connection?.number ?? -1, isWriting: !outgoing.isEmpty,
        milliseconds: cannotAccept ? Self.acceptPause : -1)
      cannotAccept = false
      if ready.wake { SocketCalls.drain(shared.wakeDescriptor) }
      // The one that is here first: it may have gone, and the next one be waiting.
      if ready.connection { serve() }
      if ready.listener { accept() }
    }
    disconnect(.ended)
  }

  private func accept() {
    let number = SocketCalls.accept(listener.number)
    if number < 0 {
      // EAGAIN, ECONNABORTED: whoever was there has gone. All else is a lack that may pass.
      cannotAccept = number != -11 && number != -103
      return
    }
    let descriptor = OwnedDescriptor(owning: number)
    guard connection == nil else {
      shared.refusedFrontEndCount.withLock { $0 += 1 }
      return
    }
    connection = descriptor
    reader = MessageReader()
    outgoing = []
    handle(.connected, with: [])
  }

  private func serve() {
    flush()
    for _ in 0..<Self.messageCountInARow {
      guard let connection, outgoing.isEmpty, !shared.shouldEnd else { return }
      do throws(VhostUserError) {
        switch try reader.next(from: connection.number) {
        case .wait: return
        case .message(let message):
          handle(
            .received(message.message, needsReply: message.needsReply),
            with: message.descriptors)
        }
      } catch {
        disconnect(error)
      }
    }
  }

  private func disconnect(_ reason: VhostUserError) {
    guard connection != nil else { return }
    connection = nil
    reader = MessageReader()
    outgoing = []
    handle(.disconnected(reason), with: [])
  }

  /// Carries out what an event leads to, and what that leads to.
  private func handle(_ event: CompanionEvent, with descriptors: [OwnedDescriptor]) {
    var next: CompanionEvent? = event
    while let event = next {
      next = nil
      let effects = shared.core.withLock { (core: inout CompanionCore) -> [CompanionEffect] in
        core.handle(event)
      }
      for effect in effects { next = carryOut(effect, descriptors) ?? next }
    }
  }

  /// - Returns: how it went, if the core waits for that.
  private func carryOut(
    _ effect: CompanionEffect, _ descriptors: [OwnedDescriptor]
  ) -> CompanionEvent? {
    switch effect {
    case .changeRAM(let change): return .ramChanged(apply(change, descriptors))
    case .clearRAM: shared.ram.withLock { $0 = RAMTable() }
    case .openLog(let description): return .logOpened(openLog(description, descriptors.first))
    case .closeLog: shared.log.close()
    case .askStop: return .stopAnswered(askStop())
    case .tell(let notice): tell(notice)
    case .reply(let reply):
      outgoing += reply.bytes
      flush()
    case .close(let reason): disconnect(reason)
    }
    return nil
  }

  private func flush() {
    guard let connection, !outgoing.isEmpty else { return }
    let count = SocketCalls.send(outgoing, to: connection.number)
    if count >= 0 {
      outgoing = outgoing.dropFirst(count)
    } else if count != -11 {
      disconnect(.connectionFailed(operation: "sendmsg", errno: Int32(clamping: -count)))
    }
  }

  private func tell(_ notice: CompanionNotice) {
    switch notice {
    case .connected: delegate.connected()
    case .trackingStarts(let isLate): delegate.trackingStarts(isLate: isLate)
    case .logReplaced: delegate.logReplaced()
    case .trackingEnds: delegate.trackingEnds()
    case .runsAgain: delegate.runsAgain()
    case .ramChanged: delegate.ramChanged()
    case .disconnected(let reason): delegate.disconnected(reason)
    }
  }

  private func askStop() -> VhostUserError? {
    do throws(VhostUserError) {
      try delegate.stop()
      return nil
    } catch {
      return error
    }
  }

  private func openLog(
    _ description: LogDescription, _ descriptor: OwnedDescriptor?
  ) -> VhostUserError? {
    guard let descriptor else {
      shared.log.close()
      return .logWithoutDescriptor
    }
    do throws(VhostUserError) {
      try shared.log.replace(with: description, of: descriptor.number)
      return nil
    } catch {
      return error
    }
  }

  private func apply(_ change: RAMChange, _ descriptors: [OwnedDescriptor]) -> VhostUserError? {
    do throws(VhostUserError) {
      var table = shared.ram.withLock { $0 }
      switch change {
      case .replace(let descriptions):
        var regions: [RAMTableRegion] = []
        for (description, descriptor) in zip(descriptions, descriptors) {
          regions.append(try Self.region(description, descriptor))
        }
        table = try RAMTable(regions)
      case .add(let description):
        guard let descriptor = descriptors.first else {
          throw .badDescriptorCount(.addMemoryRegion, count: 0, wanted: 1)
        }
        try table.insert(try Self.region(description, descriptor))
      case .remove(let description): try table.remove(description)
      }
      shared.ram.withLock { $0 = table }
      return nil
    } catch {
      return error
    }
  }

  private static func region(
    _ description: RAMRegionDescription, _ descriptor: OwnedDescriptor
  ) throws(VhostUserError) -> RAMTableRegion {
    try RAMTableRegion(
      description, file: FileIdentity(of: descriptor.number), descriptor: descriptor)
  }
}
