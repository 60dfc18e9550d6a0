import DeviceMigration
import Foundation
import Locking
import MigrationTransport
import Testing

/// Calls that are interrupted, that get half of what they want, and that meet each other.
@Suite(.serialized) struct InterruptedCallTests {
  /// A thread whose end can be waited for, and which can be interrupted.
  final class Worker: Sendable {
    private let done = DispatchSemaphore(value: 0)
    private let state = Mutex<(thread: pthread_t?, isDone: Bool)>((nil, false))

    init(_ body: @escaping @Sendable () -> Void) {
      Thread.detachNewThread { [self] in
        state.withLock { $0.thread = pthread_self() }
        body()
        state.withLock { $0.isDone = true }
        done.signal()
      }
    }

    var isDone: Bool { state.withLock { $0.isDone } }

    /// Nothing once the body has ended: its thread may be gone.
    func interrupt() {
      state.withLock { state in
        if let thread = state.thread, !state.isDone { Interruptions.interrupt(thread) }
      }
    }

    func wait() { done.wait() }
  }

  final class Counter: Sendable {
    private let counts = Mutex([Int](repeating: 0, count: 256))
    private let failure = Mutex<ChannelError?>(nil)
    func add(_ bytes: [UInt8]) { counts.withLock { for byte in bytes { $0[Int(byte)] += 1 } } }
    func count(_ byte: UInt8) -> Int { counts.withLock { $0[Int(byte)] } }
    var all: Int { counts.withLock { $0.reduce(0, +) } }
    func fail(_ error: ChannelError) { failure.withLock { $0 = $0 ?? error } }
    var error: ChannelError? { failure.withLock { $0 } }
  }

  /// A pair of each kind: who writes, who reads.
  private func pairs(
    timeoutMilliseconds: Int
  ) throws -> [(writer: FileDescriptorChannel, reader: FileDescriptorChannel)] {
    let (left, right) = try FileDescriptorChannel.pair(timeoutMilliseconds: timeoutMilliseconds)
    let (reading, writing) = Descriptors.pipe()
    let reader = try FileDescriptorChannel(
      owning: reading, name: "in", timeoutMilliseconds: timeoutMilliseconds)
    let writer = try FileDescriptorChannel(
      owning: writing, name: "out", timeoutMilliseconds: timeoutMilliseconds)
    return [(left, right), (writer, reader)]
  }

  @Test func `signals in the middle of reads and writes lose no byte and double none`() throws {
    Interruptions.prepare()
    let bytes = (0..<2_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) }
    for (writer, reader) in try pairs(timeoutMilliseconds: 30_000) {
      let counter = Counter()
      let got = Mutex<[UInt8]>([])
      let holder = Holder(got)
      let writing = Worker {
        do throws(ChannelError) { try writer.send(bytes) } catch { counter.fail(error) }
      }
      let reading = Worker {
        do throws(ChannelError) {
          var all: [UInt8] = []
          // Small reads, so that both sides wait again and again.
          while all.count < bytes.count {
            all += try reader.receiveSome(min(10_000, bytes.count - all.count))
          }
          holder.value.withLock { $0 = all }
        } catch { counter.fail(error) }
      }
      while !(writing.isDone && reading.isDone) {
        writing.interrupt()
        reading.interrupt()
        usleep(200)
      }
      writing.wait()
      reading.wait()
      #expect(counter.error == nil)
      #expect(holder.value.withLock { $0 } == bytes)
    }
  }

  private final class Holder: Sendable {
    let value: Mutex<[UInt8]>
    init(_ value: consuming Mutex<[UInt8]>) { self.value = value }
  }

  @Test func `a write that goes on in small pieces is whole, and one that stops times out`() throws
  {
    for (writer, reader) in try pairs(timeoutMilliseconds: 1000) {
      let counter = Counter()
      // More than any buffer between the two holds.
      let count = 24 << 20
      let writing = Worker {
        do throws(ChannelError) {
          try writer.send([UInt8](repeating: 7, count: count))
        } catch { counter.fail(error) }
      }
      // Slower than the timeout in all, faster in each step.
      while counter.all < count, counter.error == nil {
        counter.add(try reader.receiveSome(1 << 20))
        usleep(20_000)
      }
      writing.wait()
      #expect(counter.error == nil && counter.count(7) == count)
      let late = #expect(throws: ChannelError.self) {
        try writer.send([UInt8](repeating: 8, count: count))
      }
      #expect(late?.reason == .timedOut)
    }
  }

  @Test func `a silent other side times out though signals come faster than the timeout`() throws {
    Interruptions.prepare()
    // The writers' other ends are never read.
    for (writer, reader) in try pairs(timeoutMilliseconds: 400) {
      for writes in [false, true] {
        let counter = Counter()
        let worker = Worker {
          do throws(ChannelError) {
            if writes {
              try writer.send([UInt8](repeating: 1, count: 64 << 20))
            } else {
              counter.add(try reader.receiveSome(10))
            }
          } catch { counter.fail(error) }
        }
        let begin = Date()
        while !worker.isDone, Date().timeIntervalSince(begin) < 20 {
          worker.interrupt()
          usleep(20_000)
        }
        #expect(counter.error?.reason == .timedOut, "\(reader.name), writes: \(writes)")
        if !worker.isDone { reader.shutDown() }
        worker.wait()
      }
    }
  }

  @Test(arguments: [false, true])
  func `a connect nobody answers times out though signals come faster than the timeout`(
    isTCP: Bool
  ) throws {
    Interruptions.prepare()
    let folder = FileManager.default.temporaryDirectory
    let path = folder.appendingPathComponent("smudge-\(UUID().uuidString)").path
    let listener = try MigrationTransport.listen(
      on: isTCP ? MigrationAddress("tcp:127.0.0.1:0") : MigrationAddress("unix:\(path)"))
    // The line is filled until nobody more gets in: that is what the error says.
    var waiting: [FileDescriptorChannel] = []
    while waiting.count < 1000, let next = try? Self.connect(to: listener, within: 300) {
      waiting.append(next)
    }
    #expect(waiting.count < 1000)
    let counter = Counter()
    let worker = Worker {
      do throws(ChannelError) {
        _ = try Self.connect(to: listener, within: 400)
      } catch { counter.fail(error) }
    }
    for _ in 0..<1000 where !worker.isDone {
      worker.interrupt()
      usleep(20_000)
    }
    #expect(counter.error?.reason == .timedOut, "\(String(describing: counter.error))")
    withExtendedLifetime((listener, waiting)) {}
  }

  private static func connect(
    to listener: MigrationListener, within milliseconds: Int
  ) throws(ChannelError) -> FileDescriptorChannel {
    try MigrationTransport.connect(to: listener.address, timeoutMilliseconds: milliseconds)
  }

  @Test func `two writers and two readers on one descriptor lose nothing between them`() throws {
    for (writer, reader) in try pairs(timeoutMilliseconds: 5000) {
      let counter = Counter()
      let count = 1 << 20
      let writers = [UInt8(1), 2].map { byte in
        Worker {
          do throws(ChannelError) {
            for _ in 0..<16 {
              try writer.send([UInt8](repeating: byte, count: count / 16))
            }
          } catch { counter.fail(error) }
        }
      }
      let readers = (0..<2).map { _ in
        Worker {
          do throws(ChannelError) {
            while true {
              let piece = try reader.receiveSome(5000)
              if piece.isEmpty { return }
              counter.add(piece)
            }
          } catch { counter.fail(error) }
        }
      }
      for worker in writers { worker.wait() }
      writer.shutDown()
      for worker in readers { worker.wait() }
      #expect(counter.error == nil, "\(String(describing: counter.error))")
      #expect(counter.count(1) == count && counter.count(2) == count && counter.all == 2 * count)
    }
  }

  @Test func `a descriptor that a call still holds is not given to anybody else`() throws {
    for _ in 0..<200 {
      let (reading, writing) = Descriptors.pipe()
      let reader = try FileDescriptorChannel(owning: reading, name: "in")
      let counter = Counter()
      let worker = Worker {
        do throws(ChannelError) {
          counter.add(try reader.receiveSome(4096))
        } catch { counter.fail(error) }
      }
      let other = Worker { reader.shutDown() }
      reader.shutDown()
      // Were the number free while the read still uses it, zeroes would come from it.
      let zeroes = (0..<4).map { _ in Interruptions.openZeroes() }
      worker.wait()
      other.wait()
      #expect(counter.all == 0)
      #expect(counter.error?.reason == .closed)
      for descriptor in zeroes + [writing] { close(descriptor) }
    }
  }

  @Test func `shutDown ends every call that waits on a socket, of both directions`() throws {
    let (left, right) = try FileDescriptorChannel.pair()
    let counter = Counter()
    let ended = Counter()
    let workers = (0..<3).map { number in
      Worker {
        do throws(ChannelError) {
          if number == 0 {
            try left.send([UInt8](repeating: 1, count: 64 << 20))
          } else {
            counter.add(try left.receiveSome(10))
          }
        } catch {
          ended.add([UInt8(number)])
        }
      }
    }
    usleep(50_000)
    left.shutDown()
    for worker in workers { worker.wait() }
    #expect(counter.all == 0 && ended.all == 3)
    _ = right
  }
}
