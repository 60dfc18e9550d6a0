import Foundation
import TOMLKit
import TrackerService

/// A file for `--config`.
enum ConfigurationFile {
  /// A thousand VMs of a hundred devices fit.
  static let byteCountMax = 32 << 20

  static func read(_ path: String) throws(ConfigurationError) -> [VMConfiguration] {
    let whole = ConfigurationPlace.file(path: path, line: nil)
    let bytes: Data
    do {
      let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
      bytes = try handle.read(upToCount: byteCountMax + 1) ?? Data()
    } catch {
      throw ConfigurationError(whole, .unreadable(reason: reason(error)))
    }
    guard bytes.count <= byteCountMax else {
      throw ConfigurationError(whole, .tooLarge(maxByteCount: byteCountMax))
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ConfigurationError(whole, .notText)
    }
    return try parse(text, path: path)
  }

  /// - Parameter path: the name of the file in errors.
  static func parse(
    _ text: String, path: String
  ) throws(ConfigurationError) -> [VMConfiguration] {
    let whole = ConfigurationPlace.file(path: path, line: nil)
    // The parser hands strings on as C's: they would end there, unseen.
    guard !text.utf8.contains(0), !text.contains("\\u0000"), !text.contains("\\U00000000") else {
      throw ConfigurationError(whole, .notText)
    }
    let table: TOMLTable
    do { table = try TOMLTable(string: text) } catch {
      let damage = error as? TOMLParseError
      throw ConfigurationError(
        .file(path: path, line: damage?.source.begin.line),
        .notTOML(reason: damage?.description ?? "\(error)"))
    }
    let lines = KeyLines(text)
    let reader = ConfigurationReader(path: path, lines: lines)
    let vms = try reader.vms(of: table)
    try VMConfiguration.check(vms, whole: whole) { field in
      .file(path: path, line: lines.line(of: KeyPath(field)))
    }
    return vms
  }

  private static func reason(_ error: any Error) -> String {
    let inner = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError ?? error as NSError
    guard inner.domain == NSPOSIXErrorDomain else { return inner.localizedDescription }
    return POSIXErrorCode(rawValue: Int32(inner.code)).map { "\($0)" } ?? "errno \(inner.code)"
  }
}
