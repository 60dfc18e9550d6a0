import Foundation

/// The result of a run, for people and for machines.
struct Report: Codable {
  let machine: Machine
  let isQuick: Bool
  let repetitions: Int
  let rows: [Outcome]

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }

  func table() -> String {
    var lines = [
      "\(machine.cpu), \(machine.cores) cores, \(machine.memoryGiB) GiB, \(machine.system); "
        + "kernels: \(machine.kernels); load: \(machine.load)",
      isQuick
        ? "quick run: small sizes, times mean nothing"
        : "least of \(repetitions) repetitions, ours and the peer's turn by turn",
      "",
    ]
    let heads = ["case", "against", "ours", "peer", "ratio", "median", "target", ""]
    let cells = [heads] + rows.map { self.cells($0) }
    let widths = cells[0].indices.map { column in cells.map { $0[column].count }.max() ?? 0 }
    for row in cells {
      let padded = row.indices.map { column in
        let gap = String(repeating: " ", count: widths[column] - row[column].count)
        return column < 2 || column == 7 ? row[column] + gap : gap + row[column]
      }
      lines.append(padded.joined(separator: "  ").trimmingTrailingSpaces())
    }
    return lines.joined(separator: "\n")
  }

  private func cells(_ row: Outcome) -> [String] {
    let judged = row.meets.map { isQuick ? "ran" : $0 ? "meets" : "MISSES" }
    let verdict = judged ?? "skipped: \(row.skipped ?? "")"
    if row.theirs == nil, let value = row.ratio {
      return [row.name, row.peer, Self.number(value), "", "", "", Self.number(row.target), verdict]
    }
    return [
      row.name, row.peer, row.ours.map(Self.time) ?? "", row.theirs.map(Self.time) ?? "",
      row.ratio.map(Self.number) ?? "", row.medianRatio.map(Self.number) ?? "",
      Self.number(row.target), verdict,
    ]
  }

  private static func number(_ value: Double) -> String {
    String(format: value < 0.1 ? "%.4f" : "%.2f", value)
  }

  private static func time(_ seconds: Double) -> String {
    seconds < 1e-3
      ? String(format: "%.1f us", seconds * 1e6) : String(format: "%.2f ms", seconds * 1e3)
  }
}

extension String {
  fileprivate func trimmingTrailingSpaces() -> String {
    var text = self[...]
    while text.last == " " { text = text.dropLast() }
    return String(text)
  }
}
