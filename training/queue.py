"""One training at a time on this machine: who comes later waits for their turn, first come first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from training.lease import could_not_begin
from training.run import UNDERWAY, Run
from training.runs import Runs

SECONDS_BETWEEN_LOOKS = 0.5
_log = logging.getLogger("studio")


class Queue:
    """The runs of one studio that wait; what is waiting is read from their folders, so a restart forgets nobody."""

    def __init__(self, runs: Runs, start: Callable[[Run], object],
                 is_here: Callable[[Run], bool] = lambda run: True) -> None:
        """`start` sets a trainer to work and returns at once; `is_here` says whether a run is trained on what this
        queue is for, and not on a GPU that is lent.
        """
        self.runs, self._start, self._is_here = runs, start, is_here
        self._looking: threading.Thread | None = None
        self._asked = threading.Lock()

    def waiting(self) -> list[Run]:
        """Who waits, in the order in which they came."""
        last = [(run.last_event(), run) for run in self.runs.all()]
        queued = [(event.time, run.id, run) for event, run in last if event and event.type == "queued"]
        return [run for *_, run in sorted(queued, key=lambda one: one[:2])]

    def before(self, run: Run) -> int:
        """How many runs end before this one begins: those that wait in front of it, and the one that is trained."""
        if run.state() != "queued":
            return 0
        waiting = [one.id for one in self.waiting()]
        if run.id not in waiting:
            return 0
        return waiting.index(run.id) + self._is_busy()

    def _is_busy(self) -> bool:
        return any(run.state() in UNDERWAY and self._is_here(run) for run in self.runs.all())

    def begin_next(self) -> Run | None:
        """Set the first that waits to work where nobody is trained; the run, or None where none began. One that can't
        be begun fails with the reason, and the next one is tried.
        """
        with self.runs.alone():
            if self._is_busy():
                return None
            return next(filter(self._has_begun, self.waiting()), None)

    def _has_begun(self, run: Run) -> bool:
        try:
            self.runs.begin(run)
            self._start(run)
        except Exception as problem:  # noqa: BLE001 - whatever it was, it is this run's, and others wait
            could_not_begin(run, problem)
            return False
        return True

    def look(self) -> None:
        """Begin what can begin now, and go on looking, in a thread, for as long as somebody waits."""
        try:
            self.begin_next()
        finally:
            with self._asked:
                if self._looking is None and self.waiting():
                    self._looking = threading.Thread(target=self._look_on, name="queue", daemon=True)
                    self._looking.start()

    def _look_on(self) -> None:
        pause, said = threading.Event(), ""
        while True:
            pause.wait(SECONDS_BETWEEN_LOOKS)
            try:
                self.begin_next()
                with self._asked:
                    if not self.waiting():
                        self._looking = None
                        return
            except Exception as problem:  # noqa: BLE001 - a full disk, maybe; who waits would wait for ever
                if said != (said := str(problem)):
                    _log.exception("Nobody's turn could begin")
