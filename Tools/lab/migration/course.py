"""The course of a migration up to where the guest may stop, and its command's options."""

import argparse
import time

from attempt import TooSoon


def parser(description):
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--qemu", required=True)
    made.add_argument("--device", required=True, help="the device's program")
    made.add_argument("--kernel", required=True)
    made.add_argument("--initramfs", required=True)
    made.add_argument("--iommu", choices=["intel", "virtio"], default="intel")
    made.add_argument("--above-4g", action="store_true",
                      help="half of the memory lies above 4 GiB")
    made.add_argument("--append", help="more for the kernel's command line")
    made.add_argument("--memory", type=int, default=256, help="MiB")
    made.add_argument("--seconds", type=float, default=3, help="that the device writes, at least")
    made.add_argument("--rate", type=int, default=400, help="pages a second")
    made.add_argument("--time", type=float, default=420, help="seconds that all of it may take")
    made.add_argument("--keep", help="a folder for the logs")
    return made


def precopy(attempt, source, device, capabilities):
    """Migrates until the device has written for its time and the guest may stop."""
    options = attempt.options
    source.ask("migrate-set-capabilities", capabilities=[
        {"capability": name, "state": True} for name in ("events", *capabilities)])
    # A limit of 1 ms is not reached while the guest's CPU writes faster than is sent; 0 would end
    # the migration after the first pass. That pass sends everything anyway, so its greater part may
    # be quick: what is written after it has to be noticed.
    source.ask("migrate-set-parameters", **{"max-bandwidth": 100 << 20, "downtime-limit": 1})
    source.ask("migrate", uri=f"unix:{attempt.work}/migration")

    def ram():
        now = source.ask("query-migrate")
        if now["status"] not in ("setup", "active"):
            raise TooSoon(f"the migration is at {now['status']} already")
        return now.get("ram", {"normal-bytes": 0, "remaining": 0, "dirty-sync-count": 0})

    def count():
        return ram()["dirty-sync-count"]

    attempt.wait_for("memory that is sent", pause=0.01,
                     condition=lambda: ram()["normal-bytes"] and ram()["remaining"] < 24 << 20)
    source.ask("migrate-set-parameters", **{"max-bandwidth": 6 << 20})
    attempt.wait_for("second sync", lambda: count() >= 2)
    syncs = count()
    attempt.progress(f"the device writes, after {syncs} syncs")
    device.tell(f"write {options.rate}")
    writing = time.monotonic()
    attempt.wait_for(
        "syncs while the device writes",
        lambda: time.monotonic() - writing > options.seconds and count() >= syncs + 3)
    attempt.progress(f"the guest may stop, after {count()} syncs")


def let_stop(source):
    source.ask("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 3000})


def incoming(attempt):
    return ["-S", "-incoming", f"unix:{attempt.work}/migration"]


def wait_for_end(attempt, destination):
    attempt.wait_for("end at the destination",
                     lambda: destination.ask("query-status")["status"] != "inmigrate")
