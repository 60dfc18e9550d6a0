import DeviceMigration
import Foundation
import Locking
import MigrationTransport
import Testing

/// Two calls on one descriptor, and its end while a call still holds it.
@Suite(.serialized) struct DescriptorUseTests {
  private typealias Worker = InterruptedCallTests.Worker
  private typealias Counter = InterruptedCallTests.Counter

  private static func target(of descriptor: Int32) -> String? {
    try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(descriptor)")
  }

  /// A read that shutDown cannot end: of the events of a folder.
  @Test func `a descriptor is closed by the last call that holds it, not by shutDown`() throws {
    let folder = Descriptors.temporaryPath("watched")
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let watch = Descriptors.watch(folder)
    let name = Self.target(of: watch)
    #expect(name?.contains("inotify") == true)
    let channel = try FileDescriptorChannel(owning: watch, name: "events")
    let counter = Counter()
    let worker = Worker {
      do throws(ChannelError) {
        counter.add(try channel.receiveSome(4096))
      } catch { counter.fail(error) }
    }
    usleep(50_000)
    channel.shutDown()
    usleep(20_000)
    #expect(!worker.isDone)
    #expect(Self.target(of: watch) == name)
    #expect(FileManager.default.createFile(atPath: folder + "/event", contents: nil))
    worker.wait()
    // Its number may be somebody else's by now.
    #expect(Self.target(of: watch) != name)
  }

  @Test func `a byte that wakes two readers of a pipe goes to one, and the other waits on`() throws
  {
    let (reading, writing) = Descriptors.pipe()
    let reader = try FileDescriptorChannel(
      owning: reading, name: "in", timeoutMilliseconds: 10_000)
    let writer = try FileDescriptorChannel(owning: writing, name: "out")
    let counter = Counter()
    let readers = (0..<3).map { _ in
      Worker {
        do throws(ChannelError) {
          while true {
            let piece = try reader.receiveSome(1)
            if piece.isEmpty { return }
            counter.add(piece)
          }
        } catch { counter.fail(error) }
      }
    }
    for _ in 0..<2000 {
      try writer.send([5])
      usleep(20)
    }
    writer.shutDown()
    for worker in readers { worker.wait() }
    #expect(counter.error == nil)
    #expect(counter.all == 2000)
  }

  @Test func `room that wakes two writers of a pipe goes to one, and the other waits on`() throws {
    let (reading, writing) = Descriptors.pipe()
    Descriptors.shrink(writing)
    let reader = try FileDescriptorChannel(owning: reading, name: "in")
    let writer = try FileDescriptorChannel(
      owning: writing, name: "out", timeoutMilliseconds: 10_000)
    let counter = Counter()
    let (count, size) = (600, 3000)
    let writers = (0..<3).map { _ in
      Worker {
        do throws(ChannelError) {
          for _ in 0..<count { try writer.send([UInt8](repeating: 6, count: size)) }
        } catch { counter.fail(error) }
      }
    }
    while counter.all < 3 * count * size, counter.error == nil {
      counter.add(try reader.receiveSome(4096))
    }
    for worker in writers { worker.wait() }
    #expect(counter.error == nil)
    #expect(counter.all == 3 * count * size)
  }
}
