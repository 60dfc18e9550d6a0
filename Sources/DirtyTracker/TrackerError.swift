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
  case log(GuestDirtyLogError)
  case outOfMemory(container: String, PageBitmapError)

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
    case .log(let error): "\(error)"
    case .outOfMemory(let name, let error): "container \(name) was not added: \(error)"
    }
  }
}
