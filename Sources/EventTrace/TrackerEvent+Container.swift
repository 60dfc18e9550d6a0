extension TrackerEvent {
  /// The container whose operation this is.
  package var container: UInt16? {
    switch self {
    case .containerAdded(let container, _), .containerRemoved(let container),
      .attachmentChanged(let container, _), .addressSpaceSwitched(let container, _),
      .mapped(let container, _, _, _, _), .unmapped(let container, _),
      .unmappedByVMM(let container, _, _), .ramGone(let container, _),
      .startBegan(let container, _), .syncBegan(let container, _, _, _),
      .stopBegan(let container, _), .stepped(let container, _, _, _),
      .courseEnded(let container):
      container
    default: nil
    }
  }
}
