"""A process that stands by: it has loaded torch, TRL and their kin, and becomes the trainer of the next run."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from training import lease
from training.run import Run

# It holds half a gigabyte meanwhile.
SECONDS_STANDING_BY = 600
# One that is about to leave isn't told of a run any more.
SECONDS_TO_SPARE = 30


class Standby:
    """At most one process that stands by. Loading takes most of a small run's first seconds, and here nobody waits."""

    def __init__(self, fresh: Callable[[Run], subprocess.Popen] = lease.start,
                 seconds: float = SECONDS_STANDING_BY) -> None:
        """`fresh` starts a trainer where none stands by; one stands by for so many seconds at most."""
        self._fresh, self._seconds = fresh, seconds
        self._lock = threading.Lock()
        self._waiting: subprocess.Popen | None = None
        self._since = 0.0

    def call(self) -> None:
        """See to it that one stands by, now or in a few seconds."""
        with self._lock:
            if not self._is_there():
                self._since = time.monotonic()
                self._waiting = lease.trainer(stdin=subprocess.PIPE, output=subprocess.DEVNULL)

    def train(self, run: Run) -> subprocess.Popen:
        """Start the run's trainer, as `lease.start` does: the process that stands by, or a fresh one."""
        with self._lock:
            process, self._waiting = (self._waiting if self._is_there() else None), None
        if process is None:
            return self._fresh(run)
        try:
            return lease.watched(run, lambda: _told(process, run))
        except OSError:  # it has ended meanwhile
            return self._fresh(run)

    def _is_there(self) -> bool:
        """Whether one stands by that will for a while."""
        goes_at = self._since + self._seconds - SECONDS_TO_SPARE
        return self._waiting is not None and self._waiting.poll() is None and time.monotonic() < goes_at


def awaited(seconds: float = SECONDS_STANDING_BY) -> Path | None:
    """In the process that stands by: the folder of its run, whose log takes from now on what it prints. None where no
    run came in time, or where whoever might have named one is gone.
    """
    came, _, _ = select.select([sys.stdin], [], [], seconds)
    named = sys.stdin.readline().strip() if came else ""
    if not named:
        return None
    with lease.log_of(Path(named)) as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    return Path(named)


def _told(process: subprocess.Popen, run: Run) -> subprocess.Popen:
    process.stdin.write(f"{run.folder}\n".encode())
    process.stdin.close()
    return process
