import GuestDirtyLog

/// What the guest has: `probe [STATUS]` prints it and ends with STATUS.
enum Probe {
  static func run(_ arguments: [String]) -> LabResult {
    var result = LabResult()
    print("kernel \(Folder.text("/proc/sys/kernel/osrelease") ?? "?")")
    let groups = "/sys/kernel/iommu_groups"
    let numbers = (Folder.names(groups) ?? []).compactMap { Int($0) }.sorted()
    for number in numbers {
      let devices = Folder.names("\(groups)/\(number)/devices") ?? []
      print("group \(number): \(devices.joined(separator: " "))")
    }
    print("vfio: \((Folder.names("/dev/vfio") ?? []).joined(separator: " "))")
    print("iommufd: \(Folder.exists("/dev/iommu"))")
    print("nodes: \(SystemNUMATopology().nodeCount)")
    let edu = EduDevice.addresses()
    for address in edu {
      let driver = Folder.linkName("/sys/bus/pci/devices/\(address)/driver") ?? "none"
      print("edu \(address): driver \(driver)")
      result.expect("edu \(address) is on vfio-pci", driver, is: "vfio-pci")
    }
    let mediated = Folder.names("/sys/class/mdev_bus") ?? []
    print("mediated: \(mediated.joined(separator: " "))")
    result.check("the lab's driver and mtty are there", mediated == ["mtty", "smudge"])
    if let text = arguments.first, let status = Int32(text), result.status == 0 {
      result.wantedStatus = status
    }
    return result
  }
}
