/// `[NAME:]VMM_SOCKET=SERVER_SOCKET`. A colon behind a slash is part of a path, so an absolute path
/// needs no name before it.
struct DeviceArgument: Equatable {
  let name: String?
  let vmm: String
  let server: String

  /// Nil where it is not of that form: a path with an equals sign needs a file.
  init?(_ text: String) {
    let sides = text.split(separator: "=", omittingEmptySubsequences: false)
    guard sides.count == 2 else { return nil }
    server = String(sides[1])
    if let colon = sides[0].firstIndex(of: ":"), !sides[0][..<colon].contains("/") {
      name = String(sides[0][..<colon])
      vmm = String(sides[0][sides[0].index(after: colon)...])
    } else {
      name = nil
      vmm = String(sides[0])
    }
  }
}
