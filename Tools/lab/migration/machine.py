"""A QEMU with the lab's guest, and its QMP connection."""

import json
import queue
import socket
import subprocess
import threading

from attempt import Failure


class Machine:
    """Events that QEMU sends are queued."""

    def __init__(self, attempt, name, device_socket, *more, environment=None):
        self.attempt, self.name = attempt, name
        self.ram = attempt.work / f"{name}.ram"
        self.console = attempt.work / f"{name}.console"
        self.output = attempt.work / f"{name}.output"
        self.qmp_path = str(attempt.work / f"{name}.qmp")
        self.log = open(attempt.work / f"{name}.log", "w")
        self.process = attempt.start(
            [*self.arguments(device_socket), *more], env=environment,
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.answers, self.events = queue.Queue(), queue.Queue()
        self.qmp = socket.socket(socket.AF_UNIX)
        attempt.wait_for(f"QMP of the {name}", self.connected)
        threading.Thread(target=self.read, daemon=True).start()
        self.answers.get(timeout=attempt.left())
        self.ask("qmp_capabilities")

    def arguments(self, device_socket):
        options = self.attempt.options
        append = "console=ttyS0 quiet panic=-1 oops=panic no_timer_check"
        if options.iommu == "intel":
            iommu = ["-device", "intel-iommu,intremap=on,caching-mode=on"]
            append += " intel_iommu=on"
        else:
            iommu = ["-device", "virtio-iommu-pci,addr=3"]
            # It has no interrupt remapping, without which type1 refuses.
            append += " vfio_iommu_type1.allow_unsafe_interrupts=1"
        if options.append:
            append += " " + options.append
        below = ",max-ram-below-4g=128M" if options.above_4g else ""
        # The timeout for a machine that is busy: QEMU gives a device 5 s.
        attached = {"driver": "vfio-user-pci", "addr": "5", "x-msg-timeout": 60000,
                    "socket": {"type": "unix", "path": str(device_socket)}}
        return [
            options.qemu, "-nodefaults", "-display", "none", "-no-reboot",
            "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(options.memory),
            "-machine", f"q35,memory-backend=ram{below}",
            "-object", f"memory-backend-file,id=ram,share=on,size={options.memory}M,"
                       f"mem-path={self.ram}",
            *iommu, "-device", json.dumps(attached),
            "-kernel", options.kernel, "-initrd", options.initramfs, "-append", append,
            "-serial", f"file:{self.console}", "-serial", f"file:{self.output}",
            "-qmp", f"unix:{self.qmp_path},server=on,wait=off"]

    def connected(self):
        try:
            self.qmp.connect(self.qmp_path)
            return True
        except OSError:
            return False

    def read(self):
        for line in self.qmp.makefile():
            message = json.loads(line)
            (self.events if "event" in message else self.answers).put(message)

    def ask(self, command, **arguments):
        try:
            self.qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
            answer = self.answers.get(timeout=self.attempt.left())
        except (queue.Empty, OSError):
            raise Failure(f"the {self.name} does not answer {command}") from None
        if "return" not in answer:
            raise Failure(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def wait_for_migration(self, *wanted):
        """The status of the migration that comes first of those, or another end of it."""
        while True:
            try:
                event = self.events.get(timeout=self.attempt.left())
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

    def wait_for_guest(self):
        self.attempt.wait_for("guest that is ready", lambda: self.has_said("guest:"))
        if not self.has_said("guest: ready"):
            raise Failure(self.output.read_text(errors="replace").strip())
        self.attempt.progress("the guest is ready")
