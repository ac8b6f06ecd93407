"""How one click stops the answers that another click asked for, in the same browser tab, and how far those are."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(eq=False)
class Asked:
    """What a browser tab asked for last. Where somebody waits for its answers, `newest` is what there is of them."""

    newest: Any = None
    state: Literal["idle", "waiting", "answering", "over"] = "idle"
    since: float = field(default_factory=time.monotonic)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def is_set(self) -> bool:
        """Whether it shall stop."""
        return self._stop.is_set()

    def set(self) -> None:
        """Please stop after this token."""
        self._stop.set()

    @property
    def goes_on(self) -> bool:
        """Whether answers are still to come."""
        return self.state in ("waiting", "answering")

    def begins(self) -> bool:
        """Whether the caller shall answer: the first one who asks."""
        with self._lock:
            if self.state != "waiting":
                return False
            self.state = "answering"
            return True

    def ends(self) -> None:
        """Nothing more comes."""
        self.state = "over"

    @contextmanager
    def at_work(self) -> Iterator[Asked]:
        """Answered by who has begun it, and by nobody else."""
        self.state = "answering"
        try:
            yield self
        finally:
            self.ends()

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """What is fetched meanwhile comes before the answers, and takes its time."""
        self.since = math.inf
        try:
            yield
        finally:
            self.since = time.monotonic()

    def is_late(self, seconds: float) -> bool:
        """Whether nobody has begun to answer for so long; asked again, it is so after as long again."""
        with self._lock:
            late = self.state == "waiting" and time.monotonic() - self.since >= seconds
            if late:
                self.since = time.monotonic()
            return late


class Stops:
    """For each browser tab what was asked for last."""

    def __init__(self) -> None:
        self._asked: dict[str, Asked] = {}

    def begin(self, tab: str, waiting: Any = None) -> Asked:
        """Something new is asked for: whatever still runs for this tab stops. `waiting` is what waits for answers."""
        self.ask(tab)
        self._asked[tab] = Asked(waiting, "idle" if waiting is None else "waiting")
        return self._asked[tab]

    def ask(self, tab: str) -> None:
        """Please stop after this token."""
        self.of(tab).set()

    def of(self, tab: str) -> Asked:
        """What was asked for last."""
        return self._asked.setdefault(tab, Asked())

    def forget(self, tab: str) -> None:
        """The tab was closed: whatever still runs for it stops."""
        self.ask(tab)
        self._asked.pop(tab)
