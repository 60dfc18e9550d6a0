import DeviceMigration

extension ServerSession {
  /// Which uses of a feature this device has.
  private func uses(_ number: UInt16) -> (get: Bool, set: Bool) {
    guard let feature = VFIOUserFeature(rawValue: number) else { return (false, false) }
    let migrates = device.migration != nil
    let logs = device.dirtyLog != nil
    return switch feature {
    case .migration: (migrates, false)
    case .deviceState: (migrates, migrates)
    case .startLogging, .stopLogging: (false, logs)
    case .reportLogging: (logs, false)
    }
  }

  func feature(_ message: FeatureMessage) throws(VFIOUserError) -> FeatureMessage {
    let uses = uses(message.feature)
    let (get, set): (Bool, Bool) =
      switch message.use {
      case .get: (true, false)
      case .set: (false, true)
      case .probe(let get, let set): (get, set)
      }
    guard let feature = VFIOUserFeature(rawValue: message.feature), uses.get || !get,
      uses.set || !set, uses.get || uses.set
    else { throw malformed(.feature, "the device has no such use of feature \(message.feature)") }
    if case .probe = message.use { return message.answer(message.data) }
    switch feature {
    case .migration: return try migrationFeatures(message)
    case .deviceState:
      return message.use == .get ? try state(message) : try setState(message)
    case .startLogging: return try startLogging(message)
    case .stopLogging: return try stopLogging(message)
    case .reportLogging: return try reportLogging(message)
    }
  }

  private func room(
    _ message: FeatureMessage, for byteCount: UInt32
  ) throws(VFIOUserError) {
    guard message.argsz >= 8 + byteCount else {
      throw malformed(.feature, "argsz \(message.argsz)")
    }
  }

  private func migration() throws(VFIOUserError) -> any VFIOMigrationV2 {
    guard let migration = device.migration else {
      throw malformed(.feature, "the device does not migrate")
    }
    return migration
  }

  private func migrationFeatures(
    _ message: FeatureMessage
  ) throws(VFIOUserError) -> FeatureMessage {
    try room(message, for: 8)
    let migration = try migration()
    do throws(DeviceError) {
      var writer = WireWriter()
      writer.put(try migration.migrationFeatures().rawValue)
      return message.answer(writer.bytes)
    } catch {
      throw refused(.feature, error)
    }
  }

  private func state(_ message: FeatureMessage) throws(VFIOUserError) -> FeatureMessage {
    try room(message, for: 8)
    let migration = try migration()
    do throws(DeviceError) {
      return message.answer(DeviceStateMessage(state: try migration.state()).encoded())
    } catch {
      throw refused(.feature, error)
    }
  }

  /// The answer goes out when the device is there. After a failure it is where the path ended.
  private func setState(_ message: FeatureMessage) throws(VFIOUserError) -> FeatureMessage {
    let wanted = try DeviceStateMessage(decoding: message.data).state
    guard wanted != .error else { throw malformed(.feature, "ERROR cannot be asked for") }
    let migration = try migration()
    do throws(DeviceError) {
      let opened = try migration.setState(wanted)
      if opened != nil || !wanted.hasSession {
        dataSession?.close()
        dataSession = opened
      }
    } catch {
      // On the way it may have left the state whose data was open.
      if let state = try? migration.state(), !state.hasSession {
        dataSession?.close()
        dataSession = nil
      }
      throw refused(.feature, error)
    }
    return message.answer(DeviceStateMessage(state: wanted).encoded())
  }

  // MARK: data

  private func session(
    _ command: VFIOUserCommand, _ isRight: (DeviceState) -> Bool
  ) throws(VFIOUserError) -> any DeviceDataSession {
    guard let migration = device.migration, let session = dataSession else {
      throw malformed(command, "the device is in no state that has data")
    }
    let state: DeviceState
    do throws(DeviceError) { state = try migration.state() } catch {
      throw refused(command, error)
    }
    guard isRight(state) else { throw malformed(command, "the device is in \(state)") }
    return session
  }

  /// As many bytes as there are: fewer than asked for mean that there are no more now, and the
  /// answer
  /// is no longer than they are.
  func readState(_ byteCount: Int) throws(VFIOUserError) -> [UInt8] {
    let session = try session(.migrationRead) { $0.isSaving }
    var bytes = [UInt8](repeating: 0, count: byteCount)
    var count = 0
    reading: while count < byteCount {
      do throws(DeviceError) {
        let outcome = try WireBytes.writing(&bytes, from: count) {
          (rest: inout MutableRawSpan) throws(DeviceError) in try session.read(into: &rest)
        }
        switch outcome {
        case .bytes(let more): count += min(more, byteCount - count)
        case .temporaryEnd, .end: break reading
        }
      } catch {
        // What was read is given; the next read says what is wrong.
        if count == 0 { throw refused(.migrationRead, error) }
        break
      }
    }
    bytes.removeLast(byteCount - count)
    return bytes
  }

  func writeState(_ data: [UInt8]) throws(VFIOUserError) {
    let session = try session(.migrationWrite) { $0 == .resuming }
    var count = 0
    while count < data.count {
      do throws(DeviceError) {
        let taken = try WireBytes.reading(data, from: count) {
          (rest: RawSpan) throws(DeviceError) in try session.write(rest)
        }
        guard taken > 0 else { throw DeviceError(object: device.name, operation: "write state") }
        count += taken
      } catch {
        throw refused(.migrationWrite, error)
      }
    }
  }
}
