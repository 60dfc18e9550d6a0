#!/usr/bin/env python3
"""migrate.py: one migration of a Linux guest between two QEMUs while our device writes to its
memory through IOVAs that come and go. Compares all pages of both memories and the device's ledger.

The device writes until the guest has stopped; then QEMU waits for us before its last sync
(pause-before-switchover), since it never tells a vfio-user device to stop."""

import argparse
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PAGE = 4096

parser = argparse.ArgumentParser()
parser.add_argument("--qemu", required=True)
parser.add_argument("--library", required=True, help="the folder of libsmudge.so.1")
parser.add_argument("--device", required=True, help="the device's program")
parser.add_argument("--kernel", required=True)
parser.add_argument("--initramfs", required=True)
parser.add_argument("--iommu", choices=["intel", "virtio"], default="intel")
parser.add_argument("--above-4g", action="store_true", help="half of the memory lies above 4 GiB")
parser.add_argument("--off", action="store_true", help="our calls are off: pages must be lost")
parser.add_argument("--memory", type=int, default=256, help="MiB")
parser.add_argument("--seconds", type=float, default=3, help="that the device writes, at least")
parser.add_argument("--rate", type=int, default=400, help="pages a second")
parser.add_argument("--time", type=float, default=420, help="seconds that all of it may take")
parser.add_argument("--keep", help="a folder for the logs")
options = parser.parse_args()
began = time.monotonic()
deadline = began + options.time
work = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
children = []


def left():
    return max(0.1, deadline - time.monotonic())


def progress(text):
    print(f"{time.monotonic() - began:4.0f} s  {text}", flush=True)


class Failure(Exception):
    pass


class TooSoon(Exception):
    """The guest's CPU wrote too little, and the migration came to its end before the device did."""


def wait_for(what, condition, pause=0.1):
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"no {what} in {options.time:.0f} s")
        for child in children:
            if child.poll() is not None:
                raise Failure(f"{child.args[0]} ended with {child.returncode} before {what}")
        time.sleep(pause)


class Device:
    """The device's program, with its socket."""

    def __init__(self, name):
        self.socket = work / f"{name}.vfio"
        self.process = subprocess.Popen([options.device, str(self.socket)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        children.append(self.process)
        if self.process.stdout.readline() != "listening\n":
            raise Failure("the device does not listen")

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer.startswith("done"):
            raise Failure(f"the device did not do {line!r}")
        return answer.strip()


class Machine:
    """A QEMU, with its QMP connection; events that it sends are queued."""

    def __init__(self, name, device, *more):
        self.name, self.ram = name, work / f"{name}.ram"
        self.console, self.output = work / f"{name}.console", work / f"{name}.output"
        self.log = open(work / f"{name}.log", "w")
        append = "console=ttyS0 quiet panic=-1 oops=panic no_timer_check"
        if options.iommu == "intel":
            iommu = ["-device", "intel-iommu,intremap=on,caching-mode=on"]
            append += " intel_iommu=on"
        else:
            iommu = ["-device", "virtio-iommu-pci,addr=3"]
            # It has no interrupt remapping, without which type1 refuses.
            append += " vfio_iommu_type1.allow_unsafe_interrupts=1"
        below = ",max-ram-below-4g=128M" if options.above_4g else ""
        # The timeout for a machine that is busy: QEMU gives a device 5 s.
        attached = {"driver": "vfio-user-pci", "addr": "5", "x-msg-timeout": 60000,
                    "socket": {"type": "unix", "path": str(device.socket)}}
        arguments = [
            options.qemu, "-nodefaults", "-display", "none", "-no-reboot",
            "-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
            "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(options.memory),
            "-machine", f"q35,memory-backend=ram{below}",
            "-object", f"memory-backend-file,id=ram,share=on,size={options.memory}M,"
                       f"mem-path={self.ram}",
            *iommu, "-device", json.dumps(attached),
            "-kernel", options.kernel, "-initrd", options.initramfs, "-append", append,
            "-serial", f"file:{self.console}", "-serial", f"file:{self.output}",
            "-qmp", f"unix:{work}/{name}.qmp,server=on,wait=off", *more]
        environment = dict(os.environ, LD_LIBRARY_PATH=options.library)
        environment["SMUDGE_QEMU"] = "off" if options.off else "on"
        self.process = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        children.append(self.process)
        self.answers, self.events = queue.Queue(), queue.Queue()
        self.qmp = socket.socket(socket.AF_UNIX)
        wait_for(f"QMP of the {name}", self.connected)
        threading.Thread(target=self.read, daemon=True).start()
        self.answers.get(timeout=left())
        self.ask("qmp_capabilities")

    def connected(self):
        try:
            self.qmp.connect(f"{work}/{self.name}.qmp")
            return True
        except OSError:
            return False

    def read(self):
        for line in self.qmp.makefile():
            message = json.loads(line)
            (self.events if "event" in message else self.answers).put(message)

    def ask(self, command, **arguments):
        self.qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        try:
            answer = self.answers.get(timeout=left())
        except queue.Empty:
            raise Failure(f"the {self.name} does not answer {command}") from None
        if "return" not in answer:
            raise Failure(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def wait_for_migration(self, *wanted):
        """The status of the migration that comes first of those, or another end of it."""
        while True:
            try:
                event = self.events.get(timeout=left())
            except queue.Empty:
                raise Failure(f"the migration does not come to {wanted[0]}") from None
            status = event.get("data", {}).get("status")
            if event["event"] != "MIGRATION" or status is None:
                continue
            if status in wanted:
                return status
            if status in ("failed", "cancelled", "completed"):
                said = self.ask("query-migrate").get("error-desc", "")
                raise Failure(f"the migration {status} {said}")

    def has_said(self, text):
        return self.output.exists() and text in self.output.read_text(errors="replace")


def pages_that_differ(one, other):
    """Offsets of the pages of two files that differ."""
    found = []
    with open(one, "rb") as first, open(other, "rb") as second:
        for at in range(0, options.memory << 20, 1 << 20):
            ours, theirs = first.read(1 << 20), second.read(1 << 20)
            if ours != theirs:
                found += [at + page for page in range(0, len(ours), PAGE)
                          if ours[page:page + PAGE] != theirs[page:page + PAGE]]
    return found


def run():
    here, there = Device("source"), Device("destination")
    source = Machine("source", here)
    wait_for("guest that is ready", lambda: source.has_said("guest:"))
    if not source.has_said("guest: ready"):
        raise Failure(source.output.read_text(errors="replace").strip())
    progress("the guest is ready")
    destination = Machine("destination", there, "-S", "-incoming", f"unix:{work}/migration")
    source.ask("migrate-set-capabilities", capabilities=[
        {"capability": name, "state": True} for name in ("events", "pause-before-switchover")])
    # A limit of 1 ms is not reached while the guest's CPU writes faster than is sent; 0 would end
    # the migration after the first pass. That pass sends everything anyway, so its greater part may
    # be quick: what is written after it has to be noticed.
    source.ask("migrate-set-parameters", **{"max-bandwidth": 100 << 20, "downtime-limit": 1})
    source.ask("migrate", uri=f"unix:{work}/migration")

    def ram():
        now = source.ask("query-migrate")
        if now["status"] not in ("setup", "active"):
            raise TooSoon(f"the migration is at {now['status']} already")
        return now.get("ram", {"normal-bytes": 0, "remaining": 0, "dirty-sync-count": 0})

    def count():
        return ram()["dirty-sync-count"]

    wait_for("memory that is sent", pause=0.01,
             condition=lambda: ram()["normal-bytes"] and ram()["remaining"] < 24 << 20)
    source.ask("migrate-set-parameters", **{"max-bandwidth": 6 << 20})
    wait_for("second sync", lambda: count() >= 2)
    syncs = count()
    progress(f"the device writes, after {syncs} syncs")
    here.tell(f"write {options.rate}")
    writing = time.monotonic()
    wait_for("syncs while the device writes",
             lambda: time.monotonic() - writing > options.seconds and count() >= syncs + 3)
    progress(f"the guest may stop, after {count()} syncs")
    source.ask("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 3000})
    source.wait_for_migration("pre-switchover")
    said = here.tell("write 0")
    source.ask("migrate-continue", state="pre-switchover")
    source.wait_for_migration("completed")
    here.tell(f"ledger {work}/ledger")
    wait_for("end at the destination",
             lambda: destination.ask("query-status")["status"] != "inmigrate")
    ended = source.ask("query-migrate")
    written = {int(line) for line in (work / "ledger").read_text().split()}
    differing = pages_that_differ(source.ram, destination.ram)
    lost = sum(page in written for page in differing)
    others = len(differing) - lost
    smudge = [line for line in (work / "source.log").read_text().split("\n") if "smudge" in line]
    if smudge:
        print(*smudge, sep="\n")
    print(f"{options.iommu}{', half above 4 GiB' if options.above_4g else ''}, calls "
          f"{'off' if options.off else 'on'}: the device wrote {len(written)} pages ({said}), "
          f"{lost} lost; {others} others of {(options.memory << 20) // PAGE} differ; "
          f"{ended['ram']['dirty-sync-count']} syncs, downtime {ended['downtime']} ms, "
          f"{time.monotonic() - began:.0f} s in all")
    if len(written) < 200:
        raise Failure("the device wrote too little to prove anything")
    if others:
        raise Failure("pages that the device did not write differ")
    if lost and not options.off:
        raise Failure(f"pages are lost, the first at 0x{differing[0]:x}")
    if not lost and options.off:
        raise Failure("no page is lost with our calls off: this proves nothing")
    print("ok all pages are there" if not options.off else "ok without our calls pages are lost")


def end():
    for child in children:
        child.kill()
        child.wait()
    children.clear()
    for file in work.iterdir():
        if options.keep and file.suffix in (".log", ".console", ".output"):
            shutil.copy(file, options.keep)
        file.unlink()


# Who is told to end ends its children too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
try:
    try:
        run()
    except TooSoon as cause:
        # On a busy machine the emulated CPU may not run while the last pages are sent.
        progress(f"{cause}: once more")
        end()
        run()
except (Failure, TooSoon) as failure:
    print(f"not ok {failure}")
    for log in sorted(work.glob("*.log")) + sorted(work.glob("*.console")):
        print(f"-- {log.name}", *log.read_text(errors="replace").split("\n")[-15:], sep="\n")
    sys.exit(1)
finally:
    end()
    work.rmdir()
