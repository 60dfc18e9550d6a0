public import Addressing
public import DMAContainer
public import GuestDirtyLog
public import IOVAMapping
public import PageBitmap

/// The tracker could not do what it was told. What that could have lost is marked dirty.
public enum TrackerError: Error, Hashable, Sendable, CustomStringConvertible {
  case unknownContainer(ContainerID)
  case nameTaken(String)
  case tooManyContainers(limit: Int)
  /// A guest mapping for a container that has no vIOMMU in front.
  case notRemapped(container: String, IOVARange)
  /// Word of an unmap by the VMM for a container whose unmaps the tracker performs.
  case notOwnedByVMM(container: String, IOVARange)
  case noPermissions(container: String, IOVARange)
  /// The GPA range lies in more than one piece of this process's memory.
  case notContiguous(container: String, IOVARange, GPARange)
  case mapping(container: String, MappingError)
  /// The container refused to map; the table is without the mapping too.
  case mapFailed(ContainerError)
  /// The container refused to unmap; the table still holds the mapping, and its pages are dirty.
  case unmapFailed(ContainerError)
  /// An unmap cut a mapping, which a container can only remove whole, and the part to be kept could
  /// not be mapped again. Its dirt is in the log.
  case keptPartLost(IOVARange, ContainerError)
  /// A map failed half way, and what it had mapped could not be unmapped: it stays in the table, as
  /// asked for, and dirty.
  case mapNotTakenBack(IOVARange, ContainerError, ContainerError)
  /// The map of an IOVA that was mapped otherwise: the old mapping is gone, the new one refused.
  case remapFailed(IOVARange, ContainerError)
  /// A container that was to be added refused RAM, and then refused to unmap what it had taken: it
  /// stays, tracked, until it is removed.
  case leftMapped(ContainerID, reason: String, because: String)
  /// RAM is in the dirty log, and a container did not map it.
  case regionNotMapped(region: String, reason: String)
  /// A region goes whole or not at all.
  case partOfRegion(GPARange, of: String)
  /// Translations of a replay that were refused, the first of them, and how many; the others are
  /// mapped.
  case replayIncomplete(container: String, refused: [IOVARange], count: Int, reason: String)
  /// The memory listener was called out of turn.
  case transactionOpen
  case noTransaction
  case log(GuestDirtyLogError)
  case outOfMemory(container: String, PageBitmapError)

  /// Ranges that a sentence names; of more it says how many.
  static let namedRangeCountMax = 8

  public var description: String {
    switch self {
    case .unknownContainer(let id): "there is no \(id); nothing changed"
    case .nameTaken(let name): "there is a container \(name) already; none was added"
    case .tooManyContainers(let limit):
      "the tracker holds its limit of \(limit) containers; none was added"
    case .notRemapped(let name, let range):
      "container \(name): IOVA \(range) was not mapped: no vIOMMU translates for it"
    case .notOwnedByVMM(let name, let range):
      "container \(name): the tracker itself unmaps IOVA \(range); nothing changed"
    case .noPermissions(let name, let range):
      "container \(name): IOVA \(range) was to be mapped without permissions; it was not"
    case .notContiguous(let name, let range, let gpa):
      "container \(name): IOVA \(range) was not mapped: GPA \(gpa) is not one piece of memory"
    case .mapping(let name, let error): "container \(name): \(error)"
    case .mapFailed(let error): "\(error); nothing was mapped"
    case .unmapFailed(let error): "\(error); it counts as mapped still, and its pages as dirty"
    case .keptPartLost(let range, let error):
      "\(error); IOVA \(range), the rest of a mapping that was cut, is not mapped any more, its"
        + " pages are dirty"
    case .mapNotTakenBack(let range, let error, let second):
      "\(error); \(second): IOVA \(range) counts as mapped, and its pages as dirty"
    case .remapFailed(let range, let error):
      "\(error); what was mapped in IOVA \(range) before is unmapped, its dirt in the log"
    case .leftMapped(let id, let reason, let left):
      "\(reason); \(left); \(id) stays and is tracked until it is removed"
    case .regionNotMapped(let region, let reason):
      "\(reason); RAM \(region) is in the dirty log, and devices of that container cannot reach all"
        + " of it"
    case .partOfRegion(let range, let region):
      "GPA \(range) is a part of RAM \(region), which goes whole or not at all; nothing changed"
    case .replayIncomplete(let name, let refused, let count, let reason):
      "container \(name): \(count) translations of a replay were refused, the others are mapped:"
        + " IOVA " + refused.map { "\($0)" }.joined(separator: ", ")
        + (count > refused.count ? " and more" : "") + "; the first because \(reason)"
    case .transactionOpen: "a transaction of the memory listener is open already; nothing changed"
    case .noTransaction: "no transaction of the memory listener is open; nothing changed"
    case .log(let error): "\(error)"
    case .outOfMemory(let name, let error): "container \(name) was not added: \(error)"
    }
  }

  /// The container that was to be added is there all the same.
  var leavesContainer: Bool { if case .leftMapped = self { true } else { false } }
}
