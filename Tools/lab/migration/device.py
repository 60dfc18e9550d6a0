"""The device's program, see device.c, and what is said of its writes."""

import subprocess

from attempt import Failure

PAGE = 4096
# A stamp begins with it; see writes.c.
MAGIC = (0x6567647564656857).to_bytes(8, "little")
STAMP_SIZE = 16


class Device:
    def __init__(self, attempt, name, *features):
        self.work = attempt.work
        self.socket = attempt.work / f"{name}.vfio"
        self.process = attempt.start(
            [attempt.options.device, *features, str(self.socket)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "listening\n":
            raise Failure("the device does not listen")

    def tell(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failure(f"the device is gone and cannot {line!r}") from None
        answer = self.process.stdout.readline()
        if not answer.startswith("done"):
            raise Failure(f"the device did not do {line!r}")
        return answer.strip()

    def write_count(self):
        """Of the writes that it has begun."""
        return int(self.tell("count").split()[1])

    def ledger(self):
        """Offsets of the pages that it wrote by the memory's file."""
        self.tell(f"ledger {self.work}/ledger")
        return {int(line) for line in (self.work / "ledger").read_text().split()}

    def stamps(self):
        """Stamp: whether it was written by-file, by-message, refused, or is unanswered."""
        self.tell(f"stamps {self.work}/stamps")
        lines = (line.split() for line in (self.work / "stamps").read_text().splitlines())
        return {int(number): state for number, state in lines}


def pages_that_differ(one, other):
    """Offsets of the pages of two files of one size that differ."""
    found = []
    with open(one, "rb") as first, open(other, "rb") as second:
        for at in range(0, one.stat().st_size, 1 << 20):
            ours, theirs = first.read(1 << 20), second.read(1 << 20)
            if ours != theirs:
                found += [at + page for page in range(0, len(ours), PAGE)
                          if ours[page:page + PAGE] != theirs[page:page + PAGE]]
    return found


def stamps_in(path):
    """Stamp: offset of the page it is in, of all stamps in a file."""
    found = {}
    with open(path, "rb") as file:
        for at in range(0, path.stat().st_size, 1 << 20):
            bytes_ = file.read(1 << 20)
            place = bytes_.find(MAGIC)
            while place >= 0:
                if place % STAMP_SIZE == 0:
                    number = int.from_bytes(bytes_[place + 8:place + 16], "little")
                    found[number] = at + place - place % PAGE
                place = bytes_.find(MAGIC, place + 1)
    return found
