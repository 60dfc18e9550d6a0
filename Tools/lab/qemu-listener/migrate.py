#!/usr/bin/env python3
"""migrate.py: one migration of a Linux guest between two QEMUs while our device writes to its
memory through IOVAs that come and go. Compares all pages of both memories and the device's ledger.

The device writes until the guest has stopped; then QEMU waits for us before its last sync
(pause-before-switchover), since it never tells a vfio-user device to stop."""

import os
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "migration"))
import course
from attempt import Failure, carry_out
from device import PAGE, Device, pages_that_differ
from machine import Machine

parser = course.parser(__doc__)
parser.add_argument("--library", required=True, help="the folder of libsmudge.so.1")
parser.add_argument("--off", action="store_true", help="our calls are off: pages must be lost")
options = parser.parse_args()

environment = dict(os.environ, LD_LIBRARY_PATH=options.library)
environment["SMUDGE_QEMU"] = "off" if options.off else "on"
firmware = ["-L", "/usr/share/seabios", "-L", "/usr/share/qemu"]


def run(attempt):
    here, there = Device(attempt, "source"), Device(attempt, "destination")
    source = Machine(attempt, "source", here.socket, *firmware, environment=environment)
    source.wait_for_guest()
    destination = Machine(attempt, "destination", there.socket, *firmware,
                          *course.incoming(attempt), environment=environment)
    course.precopy(attempt, source, here, ["pause-before-switchover"])
    course.let_stop(source)
    source.wait_for_migration("pre-switchover")
    said = here.tell("write 0")
    source.ask("migrate-continue", state="pre-switchover")
    source.wait_for_migration("completed")
    course.wait_for_end(attempt, destination)
    ended = source.ask("query-migrate")
    written = here.ledger()
    differing = pages_that_differ(source.ram, destination.ram)
    lost = sum(page in written for page in differing)
    others = len(differing) - lost
    log = (attempt.work / "source.log").read_text()
    smudge = [line for line in log.split("\n") if "smudge" in line]
    if smudge:
        print(*smudge, sep="\n")
    print(f"{options.iommu}{', half above 4 GiB' if options.above_4g else ''}, calls "
          f"{'off' if options.off else 'on'}: the device wrote {len(written)} pages ({said}), "
          f"{lost} lost; {others} others of {(options.memory << 20) // PAGE} differ; "
          f"{ended['ram']['dirty-sync-count']} syncs, downtime {ended['downtime']} ms, "
          f"{attempt.seconds():.0f} s in all")
    if len(written) < 200:
        raise Failure("the device wrote too little to prove anything")
    if others:
        raise Failure("pages that the device did not write differ")
    if lost and not options.off:
        raise Failure(f"pages are lost, the first at 0x{differing[0]:x}")
    if not lost and options.off:
        raise Failure("no page is lost with our calls off: this proves nothing")
    print("ok all pages are there" if not options.off else "ok without our calls pages are lost")


carry_out(options, run)
