import FaultTable

/// Writes all faults of one file into its text, each behind a switch: both forms are compiled, and
/// the number in the environment says which one runs.
struct FaultRewriter {
  private struct Place {
    let number: Int
    let fault: PlantedFault
    let range: Range<Int>
  }

  private let text: [UInt8]
  private let isC: Bool
  private let places: [Place]

  /// - Parameter faults: those of the file, with their numbers.
  init(_ text: String, isC: Bool, _ faults: [(number: Int, fault: PlantedFault)]) throws {
    let bytes = Array(text.utf8)
    self.text = bytes
    self.isC = isC
    places = try faults.map {
      Place(
        number: $0.number, fault: $0.fault,
        range: try FaultPlace.find($0.fault, in: bytes))
    }
    for one in places {
      for other in places where one.range.overlaps(other.range) {
        let hull = one.range.clamped(to: other.range)
        guard hull == one.range || hull == other.range else {
          throw FaultTableError(
            description: "\(one.fault.name) and \(other.fault.name) overlap half")
        }
      }
    }
  }

  func rewritten() -> String {
    // Longer ones, and of equal ones those that come first, are outside.
    let ordered = places.sorted { ($0.range.count, $1.number) > ($1.range.count, $0.number) }
    let body = render(0..<text.count, ordered[...])
    return isC ? "#include \"planted_fault.h\"\n" + body : body
  }

  private func render(_ range: Range<Int>, _ inside: ArraySlice<Place>) -> String {
    var result = ""
    var position = range.lowerBound
    var rest = inside
    var tops: [(Place, ArraySlice<Place>)] = []
    while let outer = rest.first {
      let within = rest.dropFirst().filter { outer.range.contains($0.range) }
      tops.append((outer, within[...]))
      rest = rest.dropFirst().filter { !outer.range.contains($0.range) }[...]
    }
    for (outer, within) in tops.sorted(by: { $0.0.range.lowerBound < $1.0.range.lowerBound }) {
      result += String(decoding: text[position..<outer.range.lowerBound], as: UTF8.self)
      result += render(outer, old: render(outer.range, within))
      position = outer.range.upperBound
    }
    return result + String(decoding: text[position..<range.upperBound], as: UTF8.self)
  }

  private func render(_ place: Place, old: String) -> String {
    let isOn = isC ? "planted_fault(\(place.number))" : "FaultSwitch.isOn(\(place.number))"
    let new = place.fault.new
    switch place.fault.kind {
    case .value: return "(\(isOn) ? (\(new)) : (\(old)))"
    case .step:
      let condition = isC ? "(\(isOn))" : isOn
      return "if \(condition) { \(new) } else { \(old) }"
    case .text: return new.replacing("PLANTED", with: isOn)
    }
  }
}

extension Range<Int> {
  fileprivate func contains(_ other: Range<Int>) -> Bool {
    lowerBound <= other.lowerBound && other.upperBound <= upperBound
  }
}
