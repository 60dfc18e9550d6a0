import Addressing
import PageBitmap
import Locking
import Synchronization

extension GuestDirtyLog {
  /// One number over everything the log holds: regions, dirty pages, consumers, what is in flight
  /// and held back, counters. Equal after the same calls in the same order.
  public func stateDigest() -> UInt64 {
    structure.withLock { _ in
      var digest = Digest()
      digest.add(pageSize.bytes)
      let directory = self.directory.withLock { $0 }
      for region in directory.regions {
        digest.add(region.region.name)
        digest.add(region.serial)
        digest.add(region.firstPage)
        digest.add(region.pageCount)
        digest.add(region.withState { $0.digest })
      }
      for consumer in directory.consumers {
        digest.add(UInt64(consumer.id.rawValue))
        digest.add(consumer.name)
        for (number, flight) in consumer.flights.sorted(by: { $0.key < $1.key }) {
          digest.add(number)
          for run in flight.runs {
            digest.add(run.first.rawValue)
            digest.add(run.last.rawValue)
          }
          for stretch in flight.stretches { digest.add(stretch.serial) }
        }
      }
      digest.add(directory.number)
      digest.add(directory.allDirtyReason ?? "")
      digest.add(directory.countsOfGone)
      return digest.value
    }
  }

  /// Traps when an invariant of the log does not hold. For tests; reads every word.
  public func checkInvariants() {
    structure.withLock { _ in
      let (regions, consumers) = directory.withLock { ($0.regions, $0.consumers.map(\.id)) }
      for (one, next) in zip(regions, regions.dropFirst()) {
        precondition(one.lastPage < next.firstPage, "regions are in order and apart")
      }
      for region in regions {
        region.withState { state in
          precondition(!state.isGone, "a region in the directory is there")
          precondition(state.shares.map(\.consumer) == consumers, "every consumer has a share")
          state.checkInvariants()
        }
      }
    }
  }
}

extension RegionState {
  var digest: UInt64 {
    var digest = Digest()
    digest.add(main)
    for share in shares {
      digest.add(UInt64(share.consumer.rawValue))
      digest.add(share.own)
    }
    for entry in held.sorted(by: { $0.container < $1.container }) where !entry.isClean {
      digest.add(UInt64(entry.container.rawValue))
      digest.add(entry.current)
      digest.add(entry.next)
    }
    digest.add(counts)
    return digest.value
  }

  func checkInvariants() {
    main.checkInvariants()
    if shares.isEmpty { precondition(main.isEmpty, "without a consumer nothing is dirty") }
    for share in shares {
      precondition((share.own == nil) == (shares.count == 1), "own pages, unless alone")
      share.own?.bits.checkInvariants()
    }
    if shares.count > 1 {
      shares[0].own?.bits.forEachDirtyWord(blocks: 0..<main.blockCount) { index, bits in
        var common = bits
        for share in shares { common &= share.own?.bits.word(index) ?? common }
        precondition(common & ~main.word(index) == 0, "what is dirty for all is in main")
      }
    }
    for entry in held {
      precondition(entry.releasing == nil, "nothing is half released")
      precondition(entry.spare?.bits.isEmpty ?? true, "a spare bitmap is clean")
      entry.current?.bits.checkInvariants()
      entry.next?.bits.checkInvariants()
    }
  }
}

extension Digest {
  fileprivate mutating func add(_ bits: borrowing PageBitmap) {
    var digest = self
    bits.forEachDirtyWord(blocks: 0..<bits.blockCount) { index, word in
      digest.add(UInt64(index))
      digest.add(word)
    }
    digest.add(bits.dirtyCount)
    self = digest
  }

  fileprivate mutating func add(_ pages: Pages?) {
    // An empty bitmap and none are the same state.
    if let pages, !pages.bits.isEmpty { add(pages.bits) } else { add(0) }
  }

  fileprivate mutating func add(_ counts: SourceCounts) {
    var digest = self
    counts.visitAll { source, pages in
      digest.add(source.description)
      digest.add(pages)
    }
    self = digest
  }
}
