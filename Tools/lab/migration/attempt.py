"""One attempt at a migration: its folder, its children, its time."""

import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time


class Failure(Exception):
    pass


class TooSoon(Exception):
    """The guest's CPU wrote too little, and the migration came to its end before the device did."""


class Attempt:
    def __init__(self, options):
        self.options = options
        self.began = time.monotonic()
        self.deadline = self.began + options.time
        self.work = pathlib.Path(
            tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.children = []

    def left(self):
        return max(0.1, self.deadline - time.monotonic())

    def seconds(self):
        return time.monotonic() - self.began

    def progress(self, text):
        print(f"{self.seconds():4.0f} s  {text}", flush=True)

    def start(self, arguments, **more):
        child = subprocess.Popen(arguments, **more)
        self.children.append(child)
        return child

    def check_children(self, what):
        for child in self.children:
            if child.poll() is not None:
                raise Failure(f"{child.args[0]} ended with {child.returncode} before {what}")

    def wait_for(self, what, condition, pause=0.1):
        while not condition():
            if time.monotonic() > self.deadline:
                raise Failure(f"no {what} in {self.options.time:.0f} s")
            self.check_children(what)
            time.sleep(pause)

    def end_child(self, child):
        child.kill()
        child.wait()
        self.children.remove(child)

    def end(self):
        for child in list(self.children):
            self.end_child(child)
        for file in self.work.iterdir():
            if self.options.keep and file.suffix in (".log", ".console", ".output"):
                shutil.copy(file, self.options.keep)
            file.unlink()


class Lines:
    """What a child says on a pipe, kept in a log, so that a line of it can be awaited."""

    def __init__(self, pipe, log):
        self.pipe, self.log, self.lines = pipe, log, queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with open(self.log, "w") as log:
            for line in self.pipe:
                log.write(line)
                log.flush()
                self.lines.put(line)
        self.lines.put(None)

    def wait_for(self, text, attempt, what):
        while True:
            try:
                line = self.lines.get(timeout=attempt.left())
            except queue.Empty:
                raise Failure(f"{what} does not say {text!r}") from None
            if line is None:
                raise Failure(f"{what} ended before it said {text!r}")
            if text in line:
                return


def carry_out(options, run):
    """Runs `run(attempt)`, once more where it came too soon, and ends with its status."""
    attempt = Attempt(options)
    # Who is told to end ends its children too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        try:
            run(attempt)
        except TooSoon as cause:
            # On a busy machine the emulated CPU may not run while the last pages are sent.
            attempt.progress(f"{cause}: once more")
            attempt.end()
            run(attempt)
    except (Failure, TooSoon) as failure:
        print(f"not ok {failure}")
        for log in sorted(attempt.work.glob("*.log")) + sorted(attempt.work.glob("*.console")):
            lines = log.read_text(errors="replace").split("\n")[-15:]
            print(f"-- {log.name}", *lines, sep="\n")
        sys.exit(1)
    finally:
        attempt.end()
        attempt.work.rmdir()
