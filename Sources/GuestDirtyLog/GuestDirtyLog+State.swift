import Addressing
import PageBitmap
import Locking
import Synchronization

extension GuestDirtyLog {
  /// One number over what the log holds: regions, the pages dirty for each consumer, what is in
  /// flight and held back. Equal after a replay of the log's journal.
  ///
  /// Not part of it is who marked a page first (``pagesBySource``), which depends on how threads
  /// met, and numbers that only tell one thing from another.
  public func stateDigest() -> UInt64 {
    structure.withLock { _ in
      var digest = Digest()
      digest.add(pageSize.bytes)
      let directory = self.directory.withLock { $0 }
      for region in directory.regions {
        digest.add(region.region.name)
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
        }
      }
      digest.add(directory.allDirtyReason ?? "")
      return digest.value
    }
  }

  /// Traps when an invariant of the log does not hold. For tests; reads every word.
  /// - Parameter mayBeReleasing: a release of held-back pages may stand between two pieces.
  public func checkInvariants(mayBeReleasing: Bool = false) {
    structure.withLock { _ in
      let (regions, consumers) = directory.withLock { ($0.regions, $0.consumers.map(\.id)) }
      for (one, next) in zip(regions, regions.dropFirst()) {
        precondition(one.lastPage < next.firstPage, "regions are in order and apart")
      }
      for region in regions {
        region.withState { state in
          precondition(!state.isGone, "a region in the directory is there")
          precondition(state.shares.map(\.consumer) == consumers, "every consumer has a share")
          state.checkInvariants(mayBeReleasing: mayBeReleasing)
        }
      }
    }
  }
}

extension RegionState {
  var digest: UInt64 {
    var digest = Digest()
    for share in shares {
      digest.add(UInt64(share.consumer.rawValue))
      digest.add(Self.digest(main, share.own))
    }
    for entry in held.sorted(by: { $0.holder < $1.holder }) where !entry.isClean {
      digest.add(UInt64(entry.holder.container.rawValue))
      // What a walk that was given up had left is held as what it would have kept.
      digest.add(Self.digest(entry.current, entry.releasing))
      digest.add(Self.digest(entry.next))
    }
    return digest.value
  }

  /// Over the pages that one of two bitmaps knows, or both, whichever it is.
  private static func digest(_ one: borrowing PageBitmap, _ other: Pages?) -> UInt64 {
    var sum: UInt64 = 0
    one.forEachDirtyWord(blocks: 0..<one.blockCount) { index, word in
      sum &+= digest(index, word | (other?.bits.word(index) ?? 0))
    }
    other?.bits.forEachDirtyWord(blocks: 0..<one.blockCount) { index, word in
      if one.word(index) == 0 { sum &+= digest(index, word) }
    }
    return sum
  }

  private static func digest(_ one: Pages?, _ other: Pages? = nil) -> UInt64 {
    guard let some = one ?? other else { return 0 }
    return digest(some.bits, one == nil ? nil : other)
  }

  private static func digest(_ index: Int, _ word: UInt64) -> UInt64 {
    var digest = Digest()
    digest.add(UInt64(index))
    digest.add(word)
    return digest.value
  }

  func checkInvariants(mayBeReleasing: Bool) {
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
      precondition(mayBeReleasing || entry.releasing == nil, "nothing is half released")
      entry.releasing?.bits.checkInvariants()
      precondition(entry.spare?.bits.isEmpty ?? true, "a spare bitmap is clean")
      entry.current?.bits.checkInvariants()
      entry.next?.bits.checkInvariants()
    }
  }
}
