import Foundation

/// Whole files, with sentences for what goes wrong.
///
/// Unsafe in handing the kernel the address of a buffer. Sound because it is an array that lives
/// through the call, given with its own count.
enum InputFile {
  /// - Parameter kind: what people call it.
  static func read(_ path: String, as kind: String) throws(ToolError) -> [UInt8] {
    func fault() -> ToolError {
      ToolError("the \(kind) \(path) could not be read: \(Output.errorText(errno))")
    }
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw fault() }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let count = unsafe piece.withUnsafeMutableBytes { buffer in
        unsafe Foundation.read(descriptor, buffer.baseAddress, buffer.count)
      }
      if count == 0 { return bytes }
      if count < 0 {
        if errno == EINTR { continue }
        throw fault()
      }
      bytes += piece[..<count]
    }
  }
}
