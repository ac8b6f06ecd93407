"""A run is a folder: whoever trains writes into it, whoever watches reads from it."""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from adapters.files import write_whole
from adapters.library import Library
from phi3.template import Message
from training.config import RunConfig
from training.data import LESSON, Conversation
from training.owners import new_key

_STATE_BY_EVENT = {
    "queued": "queued", "created": "preparing", "resuming": "preparing", "lease_ended": "paused", "stopped": "stopped",
    "finished": "finished", "failed": "failed",
}
ENDED = ("stopped", "finished", "failed", "interrupted")
# Somebody trains it or is about to; or will when its turn has come.
UNDERWAY = ("preparing", "running")
BUSY = ("queued", *UNDERWAY)
# In a run's folder: the adapter that it trains further, and the one that it made.
START, ADAPTER = "start", "adapter"
# Beside them, what its trainer printed.
LOG = "log.txt"
# There while the adapter is evaluated, a byte long for each time that this was begun.
EVALUATING = ".evaluating"
# A trainer that has not taken the run's lock by then never began: its app was ended in between.
SECONDS_TO_BEGIN = 300
# Files' times are read off a coarser clock than events'; a trainer takes longer than this to begin.
SECONDS_APART = 0.05
# Longer than it takes to look whether somebody holds a run, on the busiest machine.
SECONDS_OF_A_LOOK = 1.0
# Nothing more happens by itself; a paused run is one that its next lease goes on with.
RESTING = (*ENDED, "paused")
# What a trainer says step by step: undone where a resume began before it.
_STEPWISE = ("step", "evaluated", "sampled")


@dataclass(frozen=True)
class Event:
    """One line of events.jsonl. `values` are plain and depend on the type; `time` is seconds since 1970."""

    type: str
    run: str
    time: float
    step: int | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, as the file holds it and `--json` prints it."""
        step = {} if self.step is None else {"step": self.step}
        whole = {"type": self.type, "run": self.run, "time": round(self.time, 3), **step, **self.values}
        return json.dumps(whole, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Event:
        """The inverse of `to_json`."""
        values = json.loads(line)
        kind, run, moment = values.pop("type"), values.pop("run"), values.pop("time")
        return cls(kind, run, moment, values.pop("step", None), values)

    @classmethod
    def in_line(cls, line: bytes | str) -> Event | None:
        """What a line of the file says; None where it is damaged: the others still tell how the run stands."""
        try:
            return cls.from_json(line if isinstance(line, str) else line.decode("utf-8", errors="replace"))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


@dataclass(frozen=True)
class Run:
    """One run, read from its folder whenever it is asked."""

    folder: Path

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def home(self) -> Path:
        """The studio's folder that this run lies in."""
        return self.folder.parent.parent

    @cached_property
    def config(self) -> RunConfig:
        """What was asked for."""
        import yaml

        return RunConfig.from_settings(yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8")))

    @cached_property
    def about_data(self) -> dict[str, Any]:
        """Name, kind, format and row counts of the data as it was at Start."""
        return json.loads((self.folder / "data.json").read_text(encoding="utf-8"))

    @property
    def is_lesson(self) -> bool:
        """Whether it learns corrected answers; what it holds out then is of what its adapter knew before."""
        return self.about_data["kind"] == LESSON

    @property
    def spares(self) -> bool:
        """Whether some of its answers are read and not learned."""
        return bool(self.about_data.get("unlearned"))

    @cached_property
    def owner(self) -> str:
        """Whose it is: see training/owners.py."""
        return (self.folder / "owner").read_text(encoding="utf-8").strip()

    def shared_key(self) -> str:
        """The key with which anybody may look at it; empty while it isn't shared.

        It stands in the folder as it is: whoever can read it there can read the run as well.
        """
        path = self.folder / "shared"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def share(self) -> str:
        """Let whoever has the key that is returned look at it."""
        if not self.shared_key():
            (self.folder / "shared").write_text(new_key(), encoding="utf-8")
        return self.shared_key()

    def unshare(self) -> None:
        """Nobody else looks at it any more; a later link is another one."""
        (self.folder / "shared").unlink(missing_ok=True)

    def is_opened_by(self, key: str) -> bool:
        """Whether this is the key that its owner gave away for looking."""
        shared = self.shared_key()
        return bool(shared) and secrets.compare_digest(shared.encode(), key.encode())

    def give_to(self, owner: str) -> None:
        """It belongs to somebody else from now on, with the adapters that were made of it. Where they have another one
        of its name, it gets a number behind its own.
        """
        library, name = Library(self.home, {self.owner}), self.config.name
        free = library.of({owner}).free(name)
        for one in library.all():
            if not one.shipped and one.provenance.get("run") == self.id:
                library.give(one.name, owner, free if one.name == name else one.name)
        if free != name:
            self.settle(RunConfig.from_settings({**self.config.settings(), "name": free}))
            last = self.last_event()
            if last and last.values.get("adapter") == name:
                self.append(last.type, last.step, **{**last.values, "adapter": free})
        write_whole(self.folder / "owner", owner)
        self.read_anew()

    def settle(self, config: RunConfig) -> None:
        """These are its settings from now on."""
        write_whole(self.folder / "config.yaml", config.to_yaml())
        self.read_anew()

    def read_anew(self) -> None:
        """Owner and settings are read again when they are asked for: both may have changed since."""
        for name in ("owner", "config"):
            self.__dict__.pop(name, None)

    def summary(self) -> dict[str, Any]:
        """What a list of runs says of it, as plain values; `loss` is the adapter's on held-out rows where there is one,
        else the newest.
        """
        course = self.course()
        newest = next((event.values["loss"] for event in reversed(course) if event.type == "evaluated"), None)
        ending = course[-1].values.get("loss") if course and course[-1].type in ("finished", "stopped") else None
        return {"run": self.id, "name": self.config.name, "state": self.state(), "method": self.config.method,
                "data": self.about_data["name"], "loss": newest if ending is None else ending}

    def events(self) -> list[Event]:
        """All events so far; a last line that a power cut left half written is not one."""
        path = self.folder / "events.jsonl"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return [event for line in text.split("\n")[:-1] if line and (event := Event.in_line(line))]

    def last_event(self) -> Event | None:
        """The newest event; what a long run said before is not read for it."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return None
        with path.open("rb") as lines:
            end = _whole_lines(path)
            start, part = end, b""
            while start and part.count(b"\n") < 2:
                start = max(0, start - 4096)
                lines.seek(start)
                part = lines.read(end - start)
        whole = [line for line in part.split(b"\n") if line]
        return (Event.in_line(whole[-1]) or next(reversed(self.events()), None)) if whole else None

    def first_event(self) -> Event | None:
        """How it began; the rest of a long run is not read for it."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return None
        with path.open("rb") as lines:
            first = lines.readline()
        return Event.in_line(first) if first.endswith(b"\n") else None

    def course(self) -> list[Event]:
        """The events without what a resume has undone: what came after the checkpoint that it went on from."""
        kept: list[Event] = []
        last = math.inf  # the step up to which no later resume has undone anything
        for event in reversed(self.events()):
            if event.type in _STEPWISE and event.step > last:
                continue
            if event.type == "resumed":
                last = min(last, event.step if event.values["checkpoint"] else -1)
            kept.append(event)
        return kept[::-1]

    def append(self, kind: str, step: int | None = None, **values: Any) -> Event:
        """Write one event, flushed to the disk."""
        event = Event(kind, self.id, time.time(), step, values)
        path = self.folder / "events.jsonl"
        with path.open("ab") as lines:
            lines.truncate(_whole_lines(path))
            lines.write(event.to_json().encode() + b"\n")
            lines.flush()
            os.fsync(lines.fileno())
        return event

    def state(self) -> str:
        """queued, preparing, running, interrupted, paused, stopped, finished or failed: what the events say.

        Ask it before you read the events: of a run that ends in between, they then hold how it ended, or it still goes
        on. The other way round nobody would look again.
        Never asked by the trainer of its own run: a POSIX lock is lost when its holder closes any descriptor of
        the file.
        """
        named = self._said()
        if named is None and self.is_held():
            return "running"
        # A trainer may have said how it ended since its last event was read, and let go only then.
        return named or self._said() or "interrupted"

    def _said(self) -> str | None:
        """The state as the last event names it; None where that is for the lock to say."""
        last = self.last_event()
        named = _STATE_BY_EVENT.get(last.type) if last else None
        # A clock that was put back would keep it, and all that wait for it, for as long as it was put back.
        is_late = named == "preparing" and abs(time.time() - last.time) > SECONDS_TO_BEGIN
        return None if is_late or (named == "preparing" and self._was_let_go_of(last.time)) else named

    def _was_let_go_of(self, since: float) -> bool:
        """Whether a trainer has held the run since then, and is gone: it ended before it could say anything."""
        lock = self.folder / "lock"
        return lock.is_file() and lock.stat().st_mtime > since + SECONDS_APART and not self.is_held()

    def follow(self, pause: float = 0.2) -> Iterator[Event]:
        """Events as they come, until the run has ended (or nobody is training it any more)."""
        seen = 0
        while True:
            state = self.state()
            events = self.events()
            yield from events[seen:]
            seen = len(events)
            if state in RESTING:
                return
            time.sleep(pause)

    def conversations(self) -> tuple[list[Conversation], list[Conversation]]:
        """(train, held out), as frozen at Start."""
        import pyarrow.parquet as parquet

        rows = parquet.read_table(self.folder / "data.parquet").to_pylist()
        kept = [(row["held_out"], Conversation(row["row"], tuple(map(_turn, row["messages"])))) for row in rows]
        return [one for held, one in kept if not held], [one for held, one in kept if held]

    def began(self) -> bool:
        """Whether a trainer ever got as far as its first event."""
        return any(event.type in ("started", "resumed") for event in self.events())

    def log(self, most: int = 20_000) -> str:
        """The end of what its trainer's process printed; nothing where there was none or it was quiet."""
        path = self.folder / LOG
        return path.read_text(encoding="utf-8", errors="replace")[-most:] if path.is_file() else ""

    def ask_to_stop(self) -> None:
        """Please stop after this step; what was learned is kept."""
        (self.folder / "stop").touch()

    def ask_to_go_on(self) -> None:
        """Take back what was asked by `ask_to_stop`."""
        (self.folder / "stop").unlink(missing_ok=True)

    def is_asked_to_stop(self) -> bool:
        """Whether somebody asked."""
        return (self.folder / "stop").exists()

    @contextmanager
    def held(self, patience: float = SECONDS_OF_A_LOOK) -> Iterator[None]:
        """Hold the run's lock: one trainer per run. ValueError where another holds it for so many seconds: whoever
        looks whether somebody does (`is_held`) has it for a moment, too.

        `lockf`, not `flock`: the latter stays held by a forked child of a trainer that was killed.
        """
        give_up = time.monotonic() + patience
        with (self.folder / "lock").open("a") as lock:
            while not _locked(lock):
                if time.monotonic() > give_up:
                    raise ValueError(f"The run {self.id} is being trained already.")
                time.sleep(0.01)
            os.utime(lock.fileno())
            yield

    def is_held(self) -> bool:
        """Whether somebody is training it now. Whoever may read the run may ask."""
        try:
            with (self.folder / "lock").open() as lock:
                return not _locked(lock, fcntl.LOCK_SH)
        except FileNotFoundError:  # deleted meanwhile
            return False


def write_events(folder: Path, events: Iterable[Event]) -> None:
    """The first events of a run whose folder isn't a run's yet."""
    (folder / "events.jsonl").write_text("".join(f"{one.to_json()}\n" for one in events), encoding="utf-8")


def _turn(row: dict[str, Any]) -> Message:
    """A turn as it was frozen; a table has a place for a mark in each of them."""
    return {name: value for name, value in row.items() if value is not None}


def _locked(lock: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    """Lock the file for this process; False where another has it."""
    try:
        fcntl.lockf(lock, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _whole_lines(path: Path) -> int:
    """Bytes up to the end of the last whole line: half a line, left by a power cut, is no event."""
    with path.open("rb") as lines:
        end = lines.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            lines.seek(start)
            found = lines.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
