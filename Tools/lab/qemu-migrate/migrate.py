#!/usr/bin/env python3
"""migrate.py: one migration of a Linux guest between two unmodified QEMUs while our device writes
to its memory through IOVAs that come and go, with smudged between each QEMU and its device. All
pages of both memories are compared once the source has completed.

With smudged the device is never told to stop: smudged has to stop it with the VM. QEMU alone never
does, so without smudged, and where the guest has not started the companion, the test pauses the
device before QEMU's last sync (pause-before-switchover), and what is lost then is not lost for want
of that."""

import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "migration"))
import course
from attempt import Failure, Lines, carry_out
from device import PAGE, Device, pages_that_differ, stamps_in
from machine import Machine

parser = course.parser(__doc__)
parser.add_argument("--smudged", help="the program; without it QEMU talks to the device")
parser.add_argument("--way", choices=["log", "messages", "everything"], default="messages",
                    help="how smudged knows what the device wrote")
parser.add_argument("--break", dest="left_out", choices=["final-sync", "late-lookup", "unmap"],
                    help="what smudged leaves out: pages must be lost")
parser.add_argument("--cancel", action="store_true",
                    help="a first migration is cancelled while the device writes")
parser.add_argument("--not-started", action="store_true",
                    help="the guest has no driver for the companion: QEMU logs DMA by messages, "
                         "other migrations are refused")
options = parser.parse_args()
if options.not_started:
    options.append = "initcall_blacklist=virtio_blk_init"
# Who is not told that the VM stops cannot stop the device.
pauses = not options.smudged or (options.not_started and options.way == "messages")

# The device of each way can do what that way needs, and not what a better one would.
FEATURES = {"log": ["--forget"], "messages": ["--messages", "--no-log"], "everything": ["--no-log"]}
# Milliseconds. The longer ones leave time for what a control must lose.
SYNC_PERIODS = {None: 100, "unmap": 100, "late-lookup": 200, "final-sync": 500}


class Side:
    """A device and, unless QEMU talks to it by itself, the smudged before it."""

    def __init__(self, attempt, name):
        self.attempt, self.name, self.smudged, self.machine = attempt, name, None, None
        self.device = Device(attempt, name, *FEATURES[options.way])
        if not options.smudged:
            return
        self.vmm_socket = attempt.work / f"{name}.vmm"
        self.companion = attempt.work / f"{name}.companion"
        arguments = [
            options.smudged, "--vm", name, "--device", f"{self.vmm_socket}={self.device.socket}",
            "--companion", str(self.companion), "--way", options.way,
            "--sync-period", str(SYNC_PERIODS[options.left_out])]
        if options.left_out:
            arguments += ["--break", options.left_out]
        self.smudged = attempt.start(arguments, text=True, errors="replace",
                                     stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = Lines(self.smudged.stderr, attempt.work / f"{name}.smudged.log")
        said.wait_for("ready", attempt, "smudged")

    @classmethod
    def to_come(cls, attempt, name):
        """A destination that awaits the migration."""
        side = cls(attempt, name)
        side.start_machine(*course.incoming(attempt))
        return side

    def start_machine(self, *more):
        if not self.smudged:
            self.machine = Machine(self.attempt, self.name, self.device.socket, *more)
            return self.machine
        self.machine = Machine(
            self.attempt, self.name, self.vmm_socket,
            "-chardev", f"socket,id=companion,path={self.companion}",
            "-device", "vhost-user-blk-pci,chardev=companion,num-queues=1,disable-legacy=on,addr=6",
            *more)
        return self.machine

    def end(self):
        """Ends QEMU, then smudged by the signal that ends a service."""
        self.attempt.end_child(self.machine.process)
        if not self.smudged:
            return
        self.smudged.terminate()
        try:
            status = self.smudged.wait(timeout=self.attempt.left())
        except subprocess.TimeoutExpired:
            raise Failure(f"the {self.name}'s smudged does not end at SIGTERM") from None
        self.attempt.children.remove(self.smudged)
        if status:
            raise Failure(f"the {self.name}'s smudged ended with {status} at SIGTERM")


def cancel(attempt, here, there):
    """A migration that is given up, after which the device goes on to write."""
    course.precopy(attempt, here.machine, here.device, [])
    here.machine.ask("migrate_cancel")
    here.machine.wait_for_migration("cancelled")
    there.end()
    begun = here.device.write_count()
    attempt.wait_for("writes after a migration that was cancelled",
                     lambda: here.device.write_count() >= begun + 100)
    attempt.progress("a migration was cancelled")


def switch_over(source, device):
    """The guest stops. Returns how many pages the device had begun to write when it was let, or
    None when the test has paused it."""
    begun = None if pauses else device.write_count()
    course.let_stop(source)
    if pauses:
        source.wait_for_migration("pre-switchover")
        device.tell("write 0")
        source.ask("migrate-continue", state="pre-switchover")
    source.wait_for_migration("completed")
    return begun


def check_stamps(stamps, found, said):
    """Whether memory agrees with what the device was answered."""
    wrong = re.search(r"([0-9]+) wrong", said)
    if wrong and int(wrong[1]):
        raise Failure(f"{wrong[1]} writes were not to be read back")
    issued = [number for number in found if stamps.get(number) in (None, "refused", "not-written")]
    if issued:
        raise Failure(f"{len(issued)} writes are in memory that the device was refused")
    done = [number for number, state in stamps.items() if state in ("by-file", "by-message")]
    absent = sum(number not in found for number in done)
    # A page is written again while it is mapped, now and then at the same of its 256 places.
    if absent > len(done) // 50:
        raise Failure(f"{absent} of {len(done)} writes that were done are not in memory")


def go_on(attempt, side):
    """The guest goes on at the destination, and its device writes there: what the guest had mapped
    is mapped for it, and smudged lets it."""
    side.machine.ask("cont")
    side.device.tell(f"write {options.rate}")
    attempt.wait_for("writes at the destination", lambda: sum(
        state in ("by-file", "by-message") for state in side.device.stamps().values()) >= 100)
    said = side.device.tell("write 0")
    if (status := side.machine.ask("query-status")["status"]) != "running":
        raise Failure(f"the destination's guest is {status}")
    attempt.progress(f"the guest and its device go on at the destination ({said})")


def judge(written, lost, others, late):
    if len(written) < 200:
        raise Failure("the device wrote too little to prove anything")
    if others:
        raise Failure("pages that the device did not write differ")
    if late == 0:
        raise Failure("the device had stopped before the guest was let stop")
    if not options.smudged or options.left_out:
        if not lost:
            raise Failure("no page is lost: this proves nothing")
        print("ok pages are lost", "without smudged" if not options.smudged
              else f"with --break {options.left_out}")
    elif lost:
        raise Failure(f"pages are lost, the first at 0x{min(lost):x}")
    else:
        print("ok all pages are there")


def refuse(attempt, here, there):
    """The migration must fail, and the source's guest and its device go on."""
    course.let_stop(here.machine)
    here.machine.wait_for_migration("failed")
    begun = here.device.write_count()
    attempt.wait_for("writes after the migration was refused",
                     lambda: here.device.write_count() >= begun + 100)
    if (status := here.machine.ask("query-status")["status"]) != "running":
        raise Failure(f"the source's guest is {status}")
    said = here.machine.ask("query-migrate").get("error-desc", "")
    print(f"{title()}: the migration was refused ({said}), {attempt.seconds():.0f} s in all")
    for side in (here, there):
        side.end()
    print("ok the migration was refused")


def title():
    parts = [options.iommu]
    if options.above_4g:
        parts.append("half above 4 GiB")
    parts.append(f"smudged by {options.way}" if options.smudged else "QEMU alone")
    if options.cancel:
        parts.append("after one that was cancelled")
    if options.not_started:
        parts.append("companion not started")
    if options.left_out:
        parts.append(f"--break {options.left_out}")
    return ", ".join(parts)


def run(attempt):
    here = Side(attempt, "source")
    source, device = here.start_machine(), here.device
    source.wait_for_guest()
    if options.cancel:
        cancel(attempt, here, Side.to_come(attempt, "cancelled"))
    there = Side.to_come(attempt, "destination")
    destination = there.machine
    course.precopy(attempt, source, device, ["pause-before-switchover"] if pauses else [])
    if options.not_started and not pauses:
        return refuse(attempt, here, there)
    begun = switch_over(source, device)
    course.wait_for_end(attempt, destination)
    # What it can write still, it writes into the memory of a guest that has gone.
    said = device.tell("write 0")
    late = device.write_count() - begun if begun is not None else None
    ended = source.ask("query-migrate")
    stamps, found = device.stamps(), stamps_in(source.ram)
    written = device.ledger() | set(found.values())
    differing = pages_that_differ(source.ram, destination.ram)
    lost = [page for page in differing if page in written]
    others = len(differing) - len(lost)
    attempt.check_children("the end")
    if late is not None:
        said += f", {late} since the guest was let stop"
    print(f"{title()}: the device wrote {len(written)} pages ({said}), {len(lost)} lost; {others} "
          f"others of {(options.memory << 20) // PAGE} differ; "
          f"{ended['ram']['dirty-sync-count']} syncs, downtime {ended['downtime']} ms, "
          f"{attempt.seconds():.0f} s in all")
    check_stamps(stamps, found, said)
    # Messages that are passed on to QEMU are refused there until the guest probes the device again:
    # its PCI command register has not arrived.
    if options.smudged and not options.left_out and not options.not_started:
        go_on(attempt, there)
    for side in (here, there):
        side.end()
    judge(written, lost, others, late)


carry_out(options, run)
