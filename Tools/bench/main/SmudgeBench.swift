import Glibc

/// Measures Smudge against peers in the same process, turn by turn, and prints ratios: the clock of
/// a shared machine drifts by half, a ratio of neighbours does not.
@main struct SmudgeBench {
  static var sections: [Section] {
    var all = [Table.section(mappingCount: 1 << 20), Table.section(mappingCount: 64 << 10)]
    all += [Walk.section, Merge.section] + Scatter.sections + [HarvestBench.section]
    #if canImport(MigrationTransport)
      all.append(StreamBench.section)
      all.append(SecureStreamBench.section)
    #endif
    #if canImport(Simulation)
      all += PredictionBench.sections
    #endif
    #if canImport(DirtyTracker)
      all += [TrackerBench.section] + SyncBench.sections + [CallsBench.section]
      all += StallBench.sections
    #endif
    #if canImport(SmudgeABI)
      all += LibraryBench.sections
    #endif
    return all
  }

  static func main() throws {
    guard let options = Options(Array(CommandLine.arguments.dropFirst())) else {
      print(Options.usage, terminator: "")
      exit(2)
    }
    let wanted = sections.filter(options.wants)
    let effort = Effort(
      isQuick: options.quick, repetitions: options.repetitions ?? (options.quick ? 1 : 7))
    let recorder = Recorder()
    if !options.list {
      for section in wanted { try section.run(recorder, effort) }
    }
    let rows = wanted.flatMap { section in
      let named = options.filter.map { section.name.lowercased().contains($0) } ?? true
      return section.rows.filter { named || options.wants($0) }
    }
    let report = Report(
      machine: .current(), isQuick: options.quick, repetitions: effort.repetitions,
      rows: rows.map(recorder.outcome))
    print(options.json ? try report.json() : report.table())
  }
}
