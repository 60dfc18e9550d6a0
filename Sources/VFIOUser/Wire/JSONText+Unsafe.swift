import CJSON

/// The text of VERSION, read by json-c. Keys that are not known are left out of account, a known
/// one
/// of another type is EINVAL.
///
/// Unsafe because json-c hands out pointers. Sound because all of them live as long as the root,
/// which is released once at the end, and none leaves this file; the text is bounded by the caller,
/// its depth by the tokener.
enum JSONText {
  /// `capabilities` and one object in it; two more for keys that are not ours.
  private static let depthMax: Int32 = 8

  static func read(
    _ text: [UInt8], _ reader: WireReader
  ) throws(VFIOUserError) -> VersionCapabilities {
    guard let tokener = unsafe json_tokener_new_ex(depthMax) else {
      throw VFIOUserError(
        .malformed, operation: reader.operation, errno: WireErrno.enomem,
        detail: "no memory to read its text")
    }
    defer { unsafe json_tokener_free(tokener) }
    unsafe json_tokener_set_flags(tokener, JSON_TOKENER_STRICT)
    let root = unsafe text.withUnsafeBytes { bytes in
      unsafe json_tokener_parse_ex(
        tokener, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(bytes.count))
    }
    defer { _ = unsafe json_object_put(root) }
    let isWhole = unsafe json_tokener_get_parse_end(tokener) == text.count
    guard unsafe json_tokener_get_error(tokener) == json_tokener_success, isWhole else {
      throw reader.malformed("its text is not JSON, or too deep")
    }
    var capabilities = VersionCapabilities()
    let top = unsafe Object(root)
    guard unsafe top.isObject else { throw reader.malformed("its text is no JSON object") }
    guard let object = try unsafe top.object("capabilities", reader) else { return capabilities }
    try unsafe read(object, reader, into: &capabilities)
    return capabilities
  }

  private static func read(
    _ object: Object, _ reader: WireReader, into found: inout VersionCapabilities
  ) throws(VFIOUserError) {
    found.descriptorCountMax = try unsafe object.number(
      "max_msg_fds", 0...Int64(MessageLimits.descriptorCountLargest), reader
    ).map { Int($0) }
    found.dataByteCountMax = try unsafe object.number("max_data_xfer_size", 1...Int64.max, reader)
      .map { Int($0) }
    found.mappingCountMax = try unsafe object.number("max_dma_maps", 0...Int64.max, reader)
      .map { Int($0) }
    found.pageSizes = try unsafe object.number("pgsizes", 1...Int64.max, reader)
      .map { UInt64($0) }
    if let twin = try unsafe object.object("twin_socket", reader) {
      found.twinSocket = VersionCapabilities.TwinSocket(
        isSupported: try unsafe twin.truth("supported", reader) ?? false,
        descriptorIndex: try unsafe twin.number("fd_index", 0...1023, reader).map { Int($0) })
    }
    found.writesMultiple = try unsafe object.truth("write_multiple", reader)
    if let migration = try unsafe object.object("migration", reader) {
      found.migrationPageSize = try unsafe migration.number("pgsize", 1...Int64.max, reader)
        .map { UInt64($0) }
      found.migrationBitmapByteCountMax = try unsafe migration.number(
        "max_bitmap_size", 0...Int64.max, reader
      ).map { UInt64($0) }
    }
    found.reportsAnyRange = try unsafe object.truth("dirty_ranges", reader)
  }

  /// One JSON value, nil for `null`.
  @unsafe private struct Object {
    let pointer: OpaquePointer?

    init(_ pointer: OpaquePointer?) { unsafe self.pointer = unsafe pointer }

    var isObject: Bool { unsafe json_object_is_type(pointer, json_type_object) != 0 }

    /// The value of a key, nil when it is not there.
    private func value(_ key: String) -> OpaquePointer?? {
      var value: OpaquePointer?
      guard unsafe json_object_object_get_ex(pointer, key, &value) != 0 else { return nil }
      return unsafe .some(value)
    }

    private func value(
      _ key: String, _ type: json_type, _ reader: WireReader
    ) throws(VFIOUserError) -> OpaquePointer? {
      guard let value = unsafe value(key) else { return nil }
      guard unsafe json_object_is_type(value, type) != 0 else {
        throw reader.malformed("\(key) is of another type")
      }
      return unsafe value
    }

    func object(_ key: String, _ reader: WireReader) throws(VFIOUserError) -> Object? {
      guard let value = try unsafe value(key, json_type_object, reader) else { return nil }
      return unsafe Object(value)
    }

    func truth(_ key: String, _ reader: WireReader) throws(VFIOUserError) -> Bool? {
      guard let value = try unsafe value(key, json_type_boolean, reader) else { return nil }
      return unsafe json_object_get_boolean(value) != 0
    }

    func number(
      _ key: String, _ range: ClosedRange<Int64>, _ reader: WireReader
    ) throws(VFIOUserError) -> Int64? {
      guard let value = try unsafe value(key, json_type_int, reader) else { return nil }
      let number = unsafe json_object_get_int64(value)
      try reader.require(range.contains(number), "\(key) is \(number)")
      return number
    }
  }
}
